# What passes for a Linux kernel (Documentation/arch/x86/boot.rst, protocol 2.12) with its real-mode, 32-bit and 64-bit entries, and
# says on port E9h by which it was entered: R, P or L. The real-mode entry adds what it finds there: the segments and flags, words of
# the BIOS data area, what the keyboard controller is told to do, the state of the VESA mode in vid_mode, the command line.
.include "handover/macros.inc"
_start:
    .org 0x1f1
    .byte 3                             # setup_sects
    .word 0
    .long (end - protected) / 16        # syssize
    .org 0x1fa
vid_mode:
    .word 0xffff
    .org 0x1fe
    .word 0xaa55
    jmp real
    .ascii "HdrS"
    .word 0x20c
    .org 0x211
    .byte 1                             # loadflags: the kernel goes to 1 MiB or above
    .org 0x214
    .long 0x100000
    .org 0x228
cmd_line_ptr:
    .long 0
    .org 0x22c
    .long 0x7fffffff
    .long 0x200000
    .byte 1, 21
    .word 9
    .long 2047
    .org 0x258
    .quad 0x1000000
    .long 0x100000
    .org 0x268
real:
    put 'R'
    call show_segments
    mov si, offset words - 0x200
    mov cx, 8
    call data
    call keyboard
    push cs
    pop ds
    sub sp, 512
    mov di, sp
    push ss
    pop es
    mov cx, es:[vid_mode]
    cmp ch, 0xff
    je 1f
    mov ax, 0x4f01
    and ch, 0x3f
    int 0x10
    call put_word
    mov ax, es:[di]
    and ax, 1
    call put_word
1:  mov ah, 0x0f
    int 0x10
    call put_word
    mov ah, 3
    mov bh, 0
    int 0x10
    mov ax, dx
    call put_word
    mov ax, cx
    call put_word
    mov eax, es:[cmd_line_ptr]
    mov si, ax
    and si, 15
    shr eax, 4
    mov ds, ax
2:  lodsb
    out DEBUG_PORT, al
    test al, al
    jnz 2b
    finish

# SS, DS, ES, FS, GS less the segment of the setup sectors, CS likewise, and the interrupt flag.
show_segments:
    pushf
    push ss
    push ds
    push es
    push fs
    push gs
    push cs
    mov bx, ss
    mov cx, 6
1:  pop ax
    sub ax, bx
    call put_word
    loop 1b
    pop ax
    and ax, 0x200
put_word:
    push cx
    push eax
    mov cl, 4
    call put_hex
    put ' '
    pop eax
    pop cx
    ret

# The keyboard controller's command byte.
keyboard:
    mov al, 0x20
    out 0x64, al
    mov cx, 0xffff
1:  in al, 0x64
    test al, 1
    loopz 1b
    in al, 0x60
    mov ah, 0
    jmp put_word

# EBDA, equipment, memory, mode, columns, rows, keyboard's flags, start of the keyboard's buffer.
words:
    .word 0x0e, 0x10, 0x13, 0x49, 0x4a, 0x84, 0x96, 0x80
.include "handover/registers.inc"

    .org 0x800
    .code32
protected:
    mov al, 'P'
    out 0xe9, al
    mov al, 'Z'
    out 0xe9, al
    out 0xf4, al
    hlt
    .org 0xa00
    .code64
    mov al, 'L'
    out DEBUG_PORT, al
    mov al, 'Z'
    out DEBUG_PORT, al
    out 0xf4, al
    hlt
    .org 0x1000
end:
