# An option ROM that says what it is initialised and booted with. The test harness puts the last byte in that makes all add up to
# zero.
.include "handover/macros.inc"
_start:
    .byte 0x55, 0xaa, 1
    jmp init
    .org 0x1a
    .word pnp
    .org 0x20
pnp:
    .ascii "$PnP"
    .byte 1, 2
    .word 0
    .byte 0, 0
    .long 0
    .word 0, name
    .byte 0, 0, 0, 0
    .word 0, 0, boot, 0, 0
name:
    .asciz "test"
init:
    put 'I'
    pushad
    push ds
    push es
    call registers
    pop es
    pop ds
    popad
    mov ax, 0x20
    retf
boot:
    put 'B'
    call registers
    finish
.include "handover/registers.inc"
    .org 0x200
