# What a machine with 1 MiB of memory still has: a disk, a screen, its size.
.include "hostile/common.inc"
    mov si, offset packet
    mov ah, 0x42
    int 0x13
    jc 1f
    put 'r'
1:  mov ax, 0x0e41
    mov bx, 7
    int 0x10
    mov ah, 0x0f
    int 0x10
    add al, '0'
    put al
    mov ah, 0x88
    int 0x15
    jc 1f
    test ax, ax
    jnz 1f
    put 'm'
1:  int 0x12
    cmp ax, 64
    jb 1f
    put 'c'
1:  finish
packet:
    .byte 16, 0
    .word 8, 0x8000, 0
    .quad 1
    boot_signature
