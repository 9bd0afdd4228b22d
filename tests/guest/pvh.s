# A PVH kernel: an ELF file with the note that says where it starts, put together by hand. It tells on port 0xE9 what it was
# given (Xen public header arch-x86/hvm/start_info.h), and ends QEMU:
#
#     pvh|COMMAND LINE|what the first module has|ACPI root pointer's signature|Kn...|end
#
# with a K for each entry of the memory map that is RAM and an n for each other one.

.intel_syntax noprefix
.code32
.equ LOAD, 0x100000
.equ DEBUG_PORT, 0xe9

.section .text
.global _start
_start:
elf:
    .byte 0x7f, 'E', 'L', 'F', 1, 1, 1
    .org 16
    .word 2, 3                      # ET_EXEC, EM_386
    .long 1, LOAD + start - elf, headers - elf, 0, 0
    .word 52, 32, 2, 40, 0, 0
headers:
    .long 1, 0, LOAD, LOAD, file_end - elf, memory_end - elf, 7, 4
    .long 4, note - elf, LOAD + note - elf, LOAD + note - elf, note_end - note, note_end - note, 4, 4
note:
    .long 4, 4, 18                  # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long LOAD + start - elf
note_end:

start:
    mov esp, LOAD + memory_end - elf
    cmp dword ptr [ebx], 0x336ec578
    jne end
    mov esi, LOAD + name - elf
    call put_text
    mov esi, [ebx + 24]
    call put_text
    mov al, '|'
    out DEBUG_PORT, al
    cmp dword ptr [ebx + 12], 0
    je 1f
    mov edi, [ebx + 16]
    mov esi, [edi]
    mov ecx, [edi + 8]
    call put_bytes
1:  mov al, '|'
    out DEBUG_PORT, al
    mov esi, [ebx + 32]
    mov ecx, 8
    call put_bytes
    mov al, '|'
    out DEBUG_PORT, al
    mov edi, [ebx + 40]
    mov ecx, [ebx + 48]
2:  mov al, 'n'
    cmp dword ptr [edi + 16], 1
    jne 3f
    mov al, 'K'
3:  out DEBUG_PORT, al
    add edi, 24
    dec ecx
    jnz 2b
end:
    mov esi, LOAD + last - elf
    call put_text
    out 0xf4, al
4:  hlt
    jmp 4b

# ESI: text that ends with a zero.
put_text:
    lodsb
    test al, al
    jz 5f
    out DEBUG_PORT, al
    jmp put_text
5:  ret

# ESI: bytes, ECX: how many.
put_bytes:
    mov dx, DEBUG_PORT
    rep outsb
    ret

name:
    .asciz "pvh|"
last:
    .asciz "|end\n"
file_end:
.equ memory_end, file_end + 4096
