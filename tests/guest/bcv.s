# An option ROM with a boot connection vector: a hard disk of one sector, which is in the ROM and says V.

.include "rom.inc"
.equ VECTOR, 0x13 * 4
.equ DISKS, 0x475

option_rom init, "Sector in a ROM", connect=connect, blocks=3

# It has a device that it found, which may become a boot device (Plug and Play BIOS Specification 1.0A, section 3.3).
init:
    mov ax, 0x30
    retf

connect:
    push ds
    push ax
    push bx
    xor ax, ax
    mov ds, ax
    mov al, [DISKS]
    inc byte ptr [DISKS]
    add al, 0x80
    mov cs:[number], al
    mov ax, [VECTOR]
    mov bx, [VECTOR + 2]
    mov cs:[before], ax
    mov cs:[before + 2], bx
    mov word ptr [VECTOR], offset serve
    mov [VECTOR + 2], cs
    pop bx
    pop ax
    pop ds
    xor ax, ax
    retf

# INT 13h: of the disk's functions only AH=02h.
serve:
    cmp dl, cs:[number]
    je 1f
    ljmp cs:[before]
1:  cmp ah, 2
    jne 2f
    push cx
    push si
    push di
    push ds
    push cs
    pop ds
    cld
    mov si, offset sector
    mov di, bx
    mov cx, 256
    rep movsw
    pop ds
    pop di
    pop si
    pop cx
    mov ax, 1
    clc
    retf 2
2:  mov ah, 1
    stc
    retf 2

number:
    .byte 0
before:
    .long 0

    .org 0x200
sector:
    mov al, 'V'
    out DEBUG_PORT, al
    int 0x18
3:  hlt
    jmp 3b
    .org 0x3fe
    .word 0xaa55
    .org 0x600
