# FS and GS loaded in protected mode, with bases that no real-mode segment gives, and used so in real mode after BIOS calls.
.include "hostile/common.inc"
.equ ABOVE_1_MIB, 0x400000
    cli
    lgdt [gdt_pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp 1f
1:  mov bx, 0x08
    mov fs, bx
    mov bx, 0x10
    mov gs, bx
    and al, 0xfe
    mov cr0, eax
    ljmp 0, offset 2f
2:  sti
    mov ah, 1
    int 0x16
    mov ah, 0x42
    mov dl, 0x80
    mov si, offset packet
    int 0x13
    mov edi, ABOVE_1_MIB
    mov dword ptr fs:[edi], 0x12345678
    mov dword ptr fs:[edi + 0x80], 0
    mov eax, gs:[8]                 # its base is 8 below that
    mov cl, 'L'
    cmp eax, 0x12345678
    jne 3f
    mov cl, 'K'
3:  mov al, cl
    out 0xe9, al
    finish
    .balign 8
gdt:
    .quad 0, 0x00cf93000000ffff, 0x00cf933ffff8ffff
gdt_pointer:
    .word 23
    .long gdt
packet:
    .byte 16, 0
    .word 1, 0x8000, 0
    .quad 0
    boot_signature
