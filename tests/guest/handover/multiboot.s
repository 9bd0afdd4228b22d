# A Multiboot kernel that lies from 8000h to DA2Fh (Multiboot 0.6.96, section 3.1), where QEMU wants the information about it. It tells on
# port E9h: M, k if all of it is as it was loaded, o if the information lies outside, m if that has a memory map.
.intel_syntax noprefix
.code32
.section .text
.global _start
.equ MAGIC, 0x1badb002
.equ FLAGS, 1 << 16
.equ FILLED, 0x5a
_start:
    .long MAGIC, FLAGS, -(MAGIC + FLAGS)
    .long _start, _start, end, end, start
start:
    mov dx, 0xe9
    cmp eax, 0x2badb002
    jne 4f
    mov al, 'M'
    out dx, al
    mov esi, offset filled
1:  cmp byte ptr [esi], FILLED
    jne 4f
    inc esi
    cmp esi, offset end
    jb 1b
    mov al, 'k'
    out dx, al
    mov al, 'o'
    cmp ebx, offset _start
    jb 2f
    cmp ebx, offset end
    jb 4f
2:  out dx, al
    test byte ptr [ebx], 1 << 6
    jz 4f
    mov al, 'm'
    out dx, al
4:  mov al, 'Z'
    out dx, al
    out 0xf4, al
5:  hlt
    jmp 5b
filled:
    .fill 0x5a2f - (filled - _start), 1, FILLED
end:
