# A data breakpoint of the guest's on what a service reads: the size of memory at 40:13.
.include "hostile/common.inc"
    mov word ptr [4 * 1], offset hit
    mov word ptr [4 * 1 + 2], 0
    mov eax, 0x413
    mov dr0, eax
    mov eax, 0x00070301             # breakpoint 0 on, exact, reads and writes of two bytes
    mov dr7, eax
    int 0x12
    mov ebx, eax
    xor eax, eax
    mov dr7, eax
    cmp bx, 600
    jb 1f
    put 'm'
1:  finish
hit:
    put 'D'
    iret
    boot_signature
