# An option ROM with a bootstrap entry, which tells on port 0xE9 that it was initialised and that it was booted, and gives up then.

.include "rom.inc"

option_rom init, test, boot=boot

init:
    mov al, 'I'
    out DEBUG_PORT, al
    mov ax, CAN_BOOT
    retf

boot:
    mov al, 'B'
    out DEBUG_PORT, al
    retf
    .org 0x200
