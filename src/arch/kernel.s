# The one-way streets out of the firmware: into a kernel's 64-bit or 32-bit entry.

    .section .text.kernel, "ax", @progbits

# Null, null, code, data: the selectors 10h and 18h that the Linux boot protocol wants.
    .balign 8
kernel_gdt64:
    .quad 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff
kernel_gdt32:
    .quad 0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff

    .macro load_gdt table
    leaq \table(%rip), %rax
    pushq %rax
    pushw $(4 * 8 - 1)
    lgdt (%rsp)
    movl $0x18, %eax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw %ax, %fs
    movw %ax, %gs
    .endm

    .code64
# RDI = entry, RSI = boot_params.
    .globl kernel_long
kernel_long:
    cli
    cld
    load_gdt kernel_gdt64
    pushq $0x10
    pushq %rdi
    xorl %ebx, %ebx
    xorl %ebp, %ebp
    xorl %edi, %edi
    lretq

# EDI = entry, ESI, EDX = EBX, ECX = EAX for the kernel; all else is zero.
    .globl kernel_protected
kernel_protected:
    cli
    cld
    load_gdt kernel_gdt32
    pushq $0x10
    leaq 1f(%rip), %rax
    pushq %rax
    lretq
    .code32
1:  movl %ecx, %ebp
    movl %edx, %ebx
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    movl $0xc0000080, %ecx
    rdmsr
    btrl $8, %eax
    wrmsr
    xorl %eax, %eax
    movl %eax, %cr4
    movl %ebp, %eax
    movl %edi, %ecx
    xorl %ebp, %ebp
    xorl %edi, %edi
    xorl %edx, %edx
    jmpl *%ecx
    .code64
