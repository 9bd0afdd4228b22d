# The model: AT.
    .set MODEL, 0xfc

# Entries at the addresses that the IBM PC gave them; old software jumps there.
    .macro fixed address, name, vector
    .org \address - CODE_OFFSET
    .globl \name
\name:
    pushw $\vector
    jmp bridge
    .endm

    .org 0xe05b - CODE_OFFSET
    .globl post
post:
    jmp reset16
    .org AT_INT_02 - CODE_OFFSET
    .globl int02
int02:
    iretw
    fixed AT_INT_13, int13, 0x13
    .org AT_INT_19 - CODE_OFFSET
    .globl int19
int19:
    jmp int19_service                   # three bytes are all the room there is
    .org AT_CONFIG_TABLE - CODE_OFFSET
# System configuration table (INT 15h AH=C0h): AT model, two PICs, RTC, INT 15h/4Fh is called, EBDA present.
    .globl config_table
config_table:
    .word 8
    .byte MODEL, 0, 1, 0x74, 0x40, 0, 0, 0
    .org 0xe729 - CODE_OFFSET
    .word BAUD_110, BAUD_150, BAUD_300, BAUD_600, BAUD_1200, BAUD_2400, BAUD_4800, BAUD_9600
    fixed AT_INT_14, int14, 0x14
    fixed AT_INT_16, int16, 0x16
    fixed AT_INT_09, int09, 0x09
    fixed AT_INT_40, int40, 0x40
    .org AT_INT_0E - CODE_OFFSET
    .globl int0e
int0e:
# IRQ 6, diskettes: tell those who watch 40:3E.
    pushw %ax
    pushw %ds
    movw $BDA_SEGMENT, %ax
    movw %ax, %ds
    orb $0x80, BDA_FLOPPY_RECALIBRATE
    movb $PIC_END_OF_INTERRUPT, %al
    outb %al, $PIC_MASTER
    popw %ds
    popw %ax
    iretw
    .org AT_DISKETTE_TABLE - CODE_OFFSET
# Diskette parameters (INT 1Eh) of a 1.44 MB drive.
    .globl diskette_parameters
diskette_parameters:
    .byte FLOPPY_STEP_TIME, FLOPPY_LOAD_TIME, 0x25, FLOPPY_SIZE_CODE, 18, FLOPPY_GAP, FLOPPY_NO_LENGTH, 0x6c, 0xf6, 0x0f, 0x08
    fixed AT_INT_17, int17, 0x17
    fixed AT_INT_10, int10, 0x10
    .org 0xf0a4 - CODE_OFFSET
    .globl video_parameters
video_parameters:
    .byte 0
    fixed AT_INT_12, int12, 0x12
    fixed AT_INT_11, int11, 0x11
    fixed AT_INT_15, int15, 0x15
    .org AT_FONT - CODE_OFFSET
# The 8x8 characters 00h to 7Fh, which programs in the CGA's graphics modes read; build.rs has their rows.
    font_rows
    .org AT_INT_1A - CODE_OFFSET
    .globl int1a
int1a:
    pushw $0x1a
    jmp bridge
    .org AT_INT_08 - CODE_OFFSET
    .globl int08_entry
int08_entry:
    jmp int08
    .org AT_IRET - CODE_OFFSET
    .globl dummy_iret
dummy_iret:
    iretw
    .org AT_INT_05 - CODE_OFFSET
    .globl int05
int05:
    pushw $0x05
    jmp bridge

    .org 0xfff0 - CODE_OFFSET
    # Below 4 GiB, where a reset begins, a near jump stays in the ROM, whatever has become of the segment in RAM. In RAM Rust makes
    # this a far jump, which works from FFFF:0000 too.
    .globl reset_vector
reset_vector:
    jmp reset16
    .org 0xfff5 - CODE_OFFSET
    .ascii "06/23/99"
    .org 0xfffe - CODE_OFFSET
    .byte MODEL
    .org F_SEGMENT_SIZE - CODE_OFFSET
