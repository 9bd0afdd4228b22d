# Restarts by a jump to FFFF:0000, twice; a CMOS byte counts.
.include "hostile/common.inc"
.equ COUNTER, 0x5a
    mov al, COUNTER
    out 0x70, al
    in al, 0x71
    mov ah, al
    add al, '0'
    out 0xe9, al
    cmp ah, 2
    jae 1f
    mov al, COUNTER
    out 0x70, al
    mov al, ah
    inc al
    out 0x71, al
    .byte 0xea
    .word 0, 0xffff
1:  finish
    boot_signature
