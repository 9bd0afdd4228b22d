# An option ROM whose bootstrap entry never returns: it raises INT 19h again. `rom.s` says the rest.

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
    .asciz "loop"

init:
    mov ax, 0x20
    retf

boot:
    mov al, 'B'
    out DEBUG_PORT, al
    int 0x19
    .org 0x200
