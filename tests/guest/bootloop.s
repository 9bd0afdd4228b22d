# An option ROM whose bootstrap entry never returns: it raises INT 19h again.

.include "rom.inc"

option_rom init, loop, boot=boot

init:
    mov ax, CAN_BOOT
    retf

boot:
    mov al, 'B'
    out DEBUG_PORT, al
    int 0x19
    .org 0x200
