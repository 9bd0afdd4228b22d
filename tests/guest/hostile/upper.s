# Says of places between C0000h and FFFFFh whether they can be written (W) or not (R), and puts back what was there.
.include "hostile/common.inc"
    cli
    mov si, offset places
1:  lodsw
    cmp ax, 0xffff
    je 3f
    mov es, ax
    lodsw
    mov di, ax
    mov al, es:[di]
    mov ah, al
    not byte ptr es:[di]
    cmp al, es:[di]
    mov al, 'R'
    je 2f
    mov es:[di], ah
    mov al, 'W'
2:  out 0xe9, al
    jmp 1b
3:  finish
places:
    .word 0xc000, 0, 0xd000, 0, 0xd800, 0, 0xe000, 0, 0xf000, 0, 0xf000, 0xfff0, 0xef80, 0, 0xffff
    boot_signature
