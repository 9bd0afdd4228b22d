# An option ROM with a bootstrap entry, which tells on port 0xE9 that it was initialised and that it was booted, and gives up then.
# The test harness puts the last byte in that makes all add up to zero (Plug and Play BIOS Specification 1.0A, section 3).

.intel_syntax noprefix
.code16
.equ DEBUG_PORT, 0xe9

.section .text
.global _start
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
    mov al, 'I'
    out DEBUG_PORT, al
    mov ax, 0x20
    retf

boot:
    mov al, 'B'
    out DEBUG_PORT, al
    retf
    .org 0x200
