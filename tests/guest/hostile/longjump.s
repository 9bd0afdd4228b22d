# A hook that the firmware calls and that never returns, as a Ctrl-Break handler that leaves by a long jump: INT 05h prints the screen
# by INT 10h, and the hook on that takes the stack back and starts anew.
.include "hostile/common.inc"
.equ ROUNDS, 300
.equ PRINT_STATUS, 0x500
    mov word ptr [4 * 0x10], offset hook
    mov word ptr [4 * 0x10 + 2], 0
again:
    mov byte ptr [PRINT_STATUS], 0
    int 0x05
    put 'N'
1:  hlt
    jmp 1b
hook:
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7c00
    sti
    dec word ptr [rounds]
    jnz again
    # The services still work.
    mov ah, 0x41
    mov bx, 0x55aa
    mov dl, 0x80
    int 0x13
    jc 2f
    put 'd'
2:  finish
rounds: .word ROUNDS
    boot_signature
