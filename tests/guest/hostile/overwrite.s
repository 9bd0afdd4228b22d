# Writes zeroes over segment F000h and over C000h, and goes on: a service, text by INT 10h, a restart that a CMOS byte counts.
.include "hostile/common.inc"
.equ COUNTER, 0x5a
    put 'A'
    xor ax, ax
    cld
    .irp segment, 0xf000, 0xc000
    mov cx, \segment
    mov es, cx
    xor di, di
    mov cx, 0x7fff
    rep stosw
    .endr
    int 0x12
    cmp ax, 600
    jb 1f
    put 'm'
1:  mov ax, 0x0e41
    mov bx, 7
    int 0x10
    mov ah, 3
    xor bx, bx
    int 0x10
    cmp dl, 0
    je 2f
    put 's'
2:  mov al, COUNTER
    out 0x70, al
    in al, 0x71
    cmp al, 0
    jne 3f
    mov al, COUNTER
    out 0x70, al
    mov al, 1
    out 0x71, al
    ljmp 0xf000, 0xfff0
3:  finish
    boot_signature
