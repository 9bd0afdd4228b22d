# INT 15h AH=89h switches to protected mode.
.include "hostile/common.inc"
    mov ax, 0x8900
    mov bx, 0x2028
    mov si, offset gdt
    int 0x15
    jc 1f
    put 'P'
    mov bx, cs
    cmp bx, 0x30
    jne 1f
    mov bx, ds
    cmp bx, 0x18
    jne 1f
    mov bx, es
    cmp bx, 0x20
    jne 1f
    mov bx, ss
    cmp bx, 0x28
    jne 1f
    cmp sp, 0x7c00
    jne 1f
    cmp ah, 0
    je 2f
1:  put 'N'
2:  finish
    .balign 8
gdt:
    .quad 0
    .word 0x3f, gdt, 0x9300, 0
    .word 0x7ff, 0x8000, 0x9300, 0
    .rept 3
    .word 0xffff, 0, 0x9300, 0
    .endr
    .word 0xffff, 0, 0x9b00, 0
    .quad 0
    boot_signature
