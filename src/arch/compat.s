# Entries at the addresses that the IBM PC gave them; old software jumps there.
    .macro fixed address, name, vector
    .org \address - 0xc000
    .globl \name
\name:
    pushw $\vector
    jmp bridge
    .endm

    .org 0xe05b - 0xc000
    .globl post
post:
    jmp reset16
    .org 0xe2c3 - 0xc000
    .globl int02
int02:
    iretw
    fixed 0xe3fe, int13, 0x13
    .org 0xe6f2 - 0xc000
    .globl int19
int19:
    jmp int19_service                   # three bytes are all the room there is
    .org 0xe6f5 - 0xc000
# System configuration table (INT 15h AH=C0h): AT model, two PICs, RTC, INT 15h/4Fh is called, EBDA present.
    .globl config_table
config_table:
    .word 8
    .byte 0xfc, 0, 1, 0x74, 0x40, 0, 0, 0
    .org 0xe729 - 0xc000
    .word 0x0417, 0x0300, 0x0180, 0x00c0, 0x0060, 0x0030, 0x0018, 0x000c
    fixed 0xe739, int14, 0x14
    fixed 0xe82e, int16, 0x16
    fixed 0xe987, int09, 0x09
    fixed 0xec59, int40, 0x40
    .org 0xef57 - 0xc000
    .globl int0e
int0e:
# IRQ 6, diskettes: tell those who watch 40:3E.
    pushw %ax
    pushw %ds
    movw $0x40, %ax
    movw %ax, %ds
    orb $0x80, 0x3e
    movb $0x20, %al
    outb %al, $0x20
    popw %ds
    popw %ax
    iretw
    .org 0xefc7 - 0xc000
# Diskette parameters (INT 1Eh) of a 1.44 MB drive.
    .globl diskette_parameters
diskette_parameters:
    .byte 0xaf, 0x02, 0x25, 0x02, 0x12, 0x1b, 0xff, 0x6c, 0xf6, 0x0f, 0x08
    fixed 0xefd2, int17, 0x17
    fixed 0xf065, int10, 0x10
    .org 0xf0a4 - 0xc000
    .globl video_parameters
video_parameters:
    .byte 0
    fixed 0xf841, int12, 0x12
    fixed 0xf84d, int11, 0x11
    fixed 0xf859, int15, 0x15
    .org 0xfa6e - 0xc000
# The 8x8 characters 00h to 7Fh, which programs in the CGA's graphics modes read; build.rs has their rows.
    font_rows
    .org 0xfe6e - 0xc000
    .globl int1a
int1a:
    pushw $0x1a
    jmp bridge
    .org 0xfea5 - 0xc000
    .globl int08_entry
int08_entry:
    jmp int08
    .org 0xff53 - 0xc000
    .globl dummy_iret
dummy_iret:
    iretw
    .org 0xff54 - 0xc000
    .globl int05
int05:
    pushw $0x05
    jmp bridge

    .org 0xfff0 - 0xc000
    # Below 4 GiB, where a reset begins, a near jump stays in the ROM, whatever has become of the segment in RAM. In RAM Rust makes
    # this a far jump, which works from FFFF:0000 too.
    .globl reset_vector
reset_vector:
    jmp reset16
    .org 0xfff5 - 0xc000
    .ascii "06/23/99"
    .org 0xfffe - 0xc000
    .byte 0xfc
    .org 0x10000 - 0xc000
