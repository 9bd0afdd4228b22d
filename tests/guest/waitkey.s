# An option ROM that waits until a key is pressed, and leaves it to the keyboard interrupt.

.include "rom.inc"
.equ STATUS, 0x64
.equ OUTPUT_FULL, 1

option_rom init, test

init:
    pushf
    cli
    mov al, 'W'
    out DEBUG_PORT, al
1:  in al, STATUS
    test al, OUTPUT_FULL
    jz 1b
    popf
    xor ax, ax
    retf
    .org 0x200
