# Reads sectors 1 and 2 to 520 GiB and 4.25 GiB, and writes both back to sectors 4 and 3, one after the other, so that the firmware
# has to reach both in turn.
.include "hostile/common.inc"
    .irp packet, to_far, to_near
    mov si, offset \packet
    mov ax, 0x4200
    call transfer
    .endr
    .irp packet, from_near, from_far
    mov si, offset \packet
    mov ax, 0x4300
    call transfer
    .endr
    finish
transfer:
    mov dl, 0x80
    int 0x13
    jc 1f
    ret
1:  put 'E'
2:  hlt
    jmp 2b

.equ FAR_GIB, 520
.macro packet name, sector, address
\name:
    .byte 24, 0
    .word 1, 0xffff, 0xffff
    .quad \sector, \address
.endm
    packet to_far, 1, FAR_GIB << 30
    packet to_near, 2, 0x110000000
    packet from_near, 3, 0x110000000
    packet from_far, 4, FAR_GIB << 30
    boot_signature
