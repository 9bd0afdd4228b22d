# The setup sectors of a Linux kernel of old, which is loaded to 10000h (Documentation/arch/x86/boot.rst, protocol 2.04). Its setup code
# writes to port E9h what it finds at 10000h and at 20000h, and its own first byte.
.include "handover/macros.inc"
_start:
    .ascii "S"
    .org 0x1f1
    .byte 4                             # setup_sects
    .org 0x1fe
    .word 0xaa55
    .byte 0xeb, setup - 1f
1:  .ascii "HdrS"
    .word 0x0204
    .org 0x211
    .byte 0                             # loadflags: not at 1 MiB
    .org 0x214
    .long 0x1000                        # code32_start
    .org 0x22c
    .long 0x37ffffff
setup:
    mov al, [0]
    out 0xe9, al
    mov ax, 0x1000
    mov ds, ax
    mov al, [0]
    out 0xe9, al
    mov ax, 0x2000
    mov ds, ax
    mov al, [0]
    out 0xe9, al
    finish
    .org 5 * 512
