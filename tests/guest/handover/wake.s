# A boot sector that goes to sleep (S3) and says what it wakes up with. The tables are found as the ACPI specification has it
# (6.5, sections 5.2.5 to 5.2.10): root pointer in the F segment, RSDT, FADT, FACS.
.include "handover/macros.inc"
.equ FACS_VECTOR, 12
# SLP_EN, and S3's SLP_TYP in QEMU's PIIX4 and ICH9 machines.
.equ SLEEP, 1 << 13 | 1 << 10
_start:
    cli
    xor ax, ax
    mov ss, ax
    mov sp, 0x7c00
    mov ds, ax
    call big_gs
    mov ebx, 0xf0000
1:  add ebx, 16
    cmp dword ptr gs:[ebx], 0x20445352 # "RSD "
    jne 1b
    mov ebx, gs:[ebx + 16]
    mov edx, ebx
    add edx, 36
2:  mov eax, gs:[edx]
    add edx, 4
    cmp dword ptr gs:[eax], 0x50434146 # "FACP"
    jne 2b
    mov dx, gs:[eax + 64]
    mov eax, gs:[eax + 36]
    mov dword ptr gs:[eax + FACS_VECTOR], offset awake
    put 's'
    in ax, dx
    and ax, 0xc3ff
    or ax, SLEEP
    out dx, ax
3:  hlt
    jmp 3b

    .balign 16
awake:
    mov cs:[saved - awake], esp
    mov cs:[saved - awake + 4], ss
    mov cs:[saved - awake + 8], eax
    mov ax, cs
    mov ss, ax
    mov esp, 0x400
    mov eax, cs:[saved - awake + 8]
    call registers
    mov eax, cs:[saved - awake + 4]
    mov cl, 4
    call put_hex
    finish

# GS with a limit of 4 GiB.
big_gs:
    lgdt [gdt]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    mov bx, 8
    mov gs, bx
    and al, 0xfe
    mov cr0, eax
    ret
gdt:
    .word 15
    .long gdt
    .word 0
    .long 0x0000ffff, 0x008f9300
.include "handover/registers.inc"
    .balign 4
saved: .long 0, 0, 0
    .org 510
    .word 0xaa55
