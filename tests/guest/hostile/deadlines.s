# Waits that nothing ends but their deadline: a byte from COM1, a printer, a disk that cannot be read. Each says its status.
.include "hostile/common.inc"
    xor dx, dx
    mov ah, 2
    int 0x14
    and ah, 0x80
    call say
    xor dx, dx
    mov ah, 1
    int 0x17
    and ah, 0x01
    call say
    mov si, offset packet
    mov dl, 0x81
    mov ah, 0x42
    int 0x13
    setc ah
    call say
    finish
# AH as two hexadecimal digits.
say:
    mov al, ah
    shr al, 4
    call digit
    mov al, ah
    and al, 15
digit:
    add al, '0'
    out 0xe9, al
    ret
packet:
    .byte 16, 0
    .word 8, 0x8000, 0
    .quad 64
    boot_signature
