# Reads a disk for ever. What comes as INT 02h is counted, and each eighth said.
.include "hostile/common.inc"
    mov word ptr [4 * 2], offset nmi
    mov word ptr [4 * 2 + 2], 0
    put 'A'
again:
    mov si, offset packet
    mov ah, 0x42
    mov dl, 0x80
    int 0x13
    jc 1f
    jmp again
1:  put 'E'
    jmp again
nmi:
    put 'N'
    iret
packet:
    .byte 16, 0
    .word 64, 0x8000, 0
    .quad 64
    boot_signature
