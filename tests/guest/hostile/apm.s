# APM's protected-mode interfaces: what the installation check and the connections say, then by each interface the power status, that there
# is no event, and with the 32-bit one off.
.include "hostile/common.inc"
    mov ax, 0x5300
    xor bx, bx
    int 0x15
    setc dl
    mov bp, cx
    call say
    mov ax, bp
    call say
    mov ax, 0x5302
    xor bx, bx
    int 0x15
    setc dl
    mov bp, ax
    call say
    mov [entry16], bx
    movzx eax, bp
    shl eax, 4
    or [code16 + 2], eax
    mov ax, 0x5304
    xor bx, bx
    int 0x15
    mov ax, 0x5303
    xor bx, bx
    int 0x15
    mov bp, ax
    mov di, dx
    setc dl
    call say
    mov [entry32], ebx
    movzx eax, bp
    shl eax, 4
    or [code32 + 2], eax
    movzx eax, di
    shl eax, 4
    or [data + 2], eax
    cli
    lgdt [gdt_pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    ljmp 0x08, offset 1f
1:  mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    .irp function, 0x530a, 0x530b
    mov ax, \function
    mov bx, 1
    lcall [entry16]
    setc dl
    call say
    mov ax, bx
    call say
    .endr
    ljmp 0x30, offset 2f
    .code32
2:  .irp function, 0x530a, 0x530b
    mov eax, \function
    mov ebx, 1
    call fword ptr [entry32]
    setc dl
    call say32
    mov eax, ebx
    call say32
    .endr
    mov eax, 0x5307
    mov ebx, 1
    mov ecx, 3
    call fword ptr [entry32]
    hlt
say32:
    mov ecx, eax
    .irp shift, 12, 8, 4, 0
    mov eax, ecx
    shr eax, \shift
    call digit32
    .endr
    mov al, dl
digit32:
    and al, 15
    add al, '0'
    out 0xe9, al
    ret
    .code16
# AX as four digits, then DL as one.
say:
    mov cx, ax
    .irp shift, 12, 8, 4, 0
    mov ax, cx
    shr ax, \shift
    call digit
    .endr
    mov al, dl
digit:
    and al, 15
    add al, '0'
    out 0xe9, al
    ret
entry16: .word 0, 0x20
entry32: .long 0
         .word 0x18
    .balign 8
gdt:
    .quad 0, 0x00009b000000ffff, 0x000093000000ffff
# The interface wants its segments side by side.
code32: .quad 0x00409b000000ffff
code16: .quad 0x00009b000000ffff
data:   .quad 0x004093000000ffff
    .quad 0x00409b000000ffff
gdt_pointer:
    .word 55
    .long gdt
    boot_signature
