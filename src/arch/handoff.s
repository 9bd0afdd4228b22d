# The way out to firmware that replaces ours: copied to HERE, entered in 64-bit mode, it ends as a processor after reset
# does, but for the low base of CS: real mode at F000:FFF0.

    .section .text.handoff, "ax", @progbits
    .set HERE_CODE, 0x08
    .set HERE_DATA, 0x10

    .balign 16
    .globl handoff_start
handoff_start:
    .code64
    cli
    lgdt handoff_gdtr - handoff_start + HERE
    ljmpl *handoff_pointer - handoff_start + HERE

    .balign 8
handoff_pointer:
    .long handoff16 - handoff_start + HERE
    .word HERE_CODE

    .balign 8
handoff_gdt:
    .quad 0
    .quad 0x00009b000000ffff            # 16-bit code at 0
    .quad 0x000093000000ffff            # 16-bit data at 0
handoff_gdtr:
    .word 3 * 8 - 1
    .quad handoff_gdt - handoff_start + HERE
handoff_idtr:
    .word 256 * 4 - 1
    .long 0

    .code16
handoff16:
    movl $CR0_PROTECTED, %eax
    movl %eax, %cr0
    movl $MSR_EFER, %ecx
    xorl %eax, %eax
    xorl %edx, %edx
    wrmsr
    movl %eax, %cr3
    movl %eax, %cr4
    movw $HERE_DATA, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    movw %ax, %ss
    lidtl handoff_idtr - handoff_start + HERE
    movl $CR0_REAL, %eax
    movl %eax, %cr0
    ljmpw $0, $(1f - handoff_start + HERE)
1:  xorl %eax, %eax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    movw %ax, %ss
    movl %eax, %ebx
    movl %eax, %ecx
    movl %eax, %edx
    movl %eax, %esi
    movl %eax, %edi
    movl %eax, %ebp
    movl %eax, %esp
    ljmpw $F_SEGMENT, $0xfff0
    .globl handoff_end
handoff_end:
    .code64
