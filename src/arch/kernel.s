# The one-way streets out of the firmware: into a kernel's 64-bit or 32-bit entry.

    .section .text.kernel, "ax", @progbits
    .set KERNEL_CODE, 0x10
    .set KERNEL_DATA, 0x18

# Null, null, code, data: the selectors that the Linux boot protocol wants.
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
    movl $KERNEL_DATA, %eax
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
    pushq $KERNEL_CODE
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
    pushq $KERNEL_CODE
    leaq 1f(%rip), %rax
    pushq %rax
    lretq
    .code32
1:  movl %ecx, %ebp
    movl %edx, %ebx
    movl %cr0, %eax
    andl $CR0_UNPAGED, %eax
    movl %eax, %cr0
    movl $MSR_EFER, %ecx
    rdmsr
    btrl $EFER_LME, %eax
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
