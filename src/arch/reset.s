# Reset, from the reset vector in ROM or by a jump to F000:FFF0 or F000:E05B.
reset16:
    cli
    cld
    # CMOS shutdown status 05, 09, 0A: a 286-style return to real mode by way of a reset (IBM AT technical reference).
    # FE: the machine wakes up from S3 (QEMU and Xen set it).
    movb $0x8f, %al
    outb %al, $0x70
    inb $0x71, %al
    movb %al, %bl
    cmpb $0xfe, %al
    je 4f
    testb $BOOTED, %cs:(fseg_state - F000)
    jnz 2f
    testb %al, %al
    jz 1f
4:  movb $0x8f, %al
    outb %al, $0x70
    movb $0, %al
    outb %al, $0x71
    cmpb $0xfe, %bl
    je wake
    cmpb $0x05, %bl
    je resume_eoi
    cmpb $0x0a, %bl
    je resume_jump
    cmpb $0x09, %bl
    je resume_iret
1:
cold_start:
    lgdtl %cs:(rom_gdtr - F000)
    movl %cr0, %eax
    andl $0x9fffffff, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $0x18, $(reset32 - F000 + 0xffff0000)

2:  movw $0xcf9, %dx
    movb $0x02, %al
    outb %al, %dx
    movb $0x06, %al
    outb %al, %dx
    movb $0xfe, %al
    outb %al, $0x64
3:  hlt
    jmp 3b

resume_eoi:
    movb $0x20, %al
    outb %al, $0xa0
    outb %al, $0x20
resume_jump:
    movw $0x40, %ax
    movw %ax, %ds
    ljmpw *0x67
resume_iret:
    movw $0x40, %ax
    movw %ax, %ds
    lssw 0x67, %sp
    popw %ds
    popw %es
    popaw
    iretw

# Waking up: memory is as it was, the machine is as after reset. Makes the F segment RAM again, where it is not (the registers
# are those of chipset.rs), and goes on in Rust. Where RAM has no firmware that could, this is a start like any other.
wake:
    testb $INSTALLED, %cs:(fseg_state - F000)
    jnz 2f
    movw $0xcf8, %dx
    movl $0x80000000, %eax
    outl %eax, %dx
    movw $0xcfc, %dx
    inl %dx, %eax
    movl $0x80000058, %ebx
    movl $0x33333000, %ecx
    movl $0x33333333, %esi
    cmpl $0x12378086, %eax
    je 1f
    movl $0x80000090, %ebx
    movl $0x33333330, %ecx
    movl $0x00333333, %esi
    cmpl $0x29c08086, %eax
    jne cold_start
1:  movw $0xcf8, %dx
    movl %ebx, %eax
    outl %eax, %dx
    movw $0xcfc, %dx
    movl %ecx, %eax
    outl %eax, %dx
    movw $0xcf8, %dx
    leal 4(%ebx), %eax
    outl %eax, %dx
    movw $0xcfc, %dx
    movl %esi, %eax
    outl %eax, %dx
2:  movw $0xf000, %ax
    movw %ax, %ds
    testb $INSTALLED, fseg_state - F000
    jz cold_start
    movl %cr0, %eax
    andl $0x9fffffff, %eax
    movl %eax, %cr0
    movw $0xef00, %ax
    movw %ax, %ss
    movl $0x1000, %esp
    ljmpw $0xf000, $(1f - F000)
1:  lidtl %cs:(real_idtr - F000)
    xorl %eax, %eax
    movl %eax, %ebx
    movl %eax, %ecx
    movl %eax, %edx
    movl %eax, %esi
    movl %eax, %edi
    movl %eax, %ebp
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    pushfw
    pushw %cs
    pushw $0
    pushw $0x102
    jmp bridge

# The guest goes on where EAX says, a segment and an offset. All else is zero but the stack pointer, as SeaBIOS leaves it; no memory
# of the guest's is used.
    .globl awake
awake:
    ljmpw $0xef00, $(1f - EF00)
1:  movl %eax, %cs:(v_chain)
    movl $0, %eax                       # which leaves the flags alone
    movw %ax, %ss
    movl $0x7000, %esp
    ljmpw *%cs:(v_chain)

    .code32
reset32:
    movl $0x20, %eax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $0x7000, %esp
    # CMOS 34h/35h: RAM above 16 MiB in 64 KiB units; 30h/31h: above 1 MiB in KiB, for smaller machines.
    movb $0x35, %al
    outb %al, $0x70
    inb $0x71, %al
    movb %al, %dh
    movb $0x34, %al
    outb %al, $0x70
    inb $0x71, %al
    movb %al, %dl
    movzwl %dx, %edx
    testl %edx, %edx
    jz 1f
    shll $16, %edx
    addl $0x1000000, %edx
    jmp 2f
1:  movb $0x31, %al
    outb %al, $0x70
    inb $0x71, %al
    movb %al, %dh
    movb $0x30, %al
    outb %al, $0x70
    inb $0x71, %al
    movb %al, %dl
    shll $10, %edx
    addl $0x100000, %edx
2:  xorl %ebx, %ebx
    jmp entry32

# Where application processors start (SIPI vector FDh): load the MSRs that the boot processor has, count, and halt.
    .code16
    .org 0xd000 - 0xc000
    .globl ap_start
ap_start:
    cli
    cld
    movw $0xef00, %ax
    movw %ax, %ds
    movl %cr0, %eax
    andl $0x9fffffff, %eax
    movl %eax, %cr0
    movw $ap_msrs, %si
    movw ap_msr_count, %di
1:  testw %di, %di
    jz 2f
    movl (%si), %ecx
    movl 4(%si), %eax
    movl 8(%si), %edx
    wrmsr
    addw $12, %si
    decw %di
    jmp 1b
2:  movl $1, %eax
    cpuid
    shrl $24, %ebx
    lock btsl %ebx, ap_ids
    lock incl ap_count
3:  cli
    hlt
    jmp 3b
