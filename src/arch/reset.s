# Reset, from the reset vector in ROM or by a jump to F000:FFF0 or F000:E05B.
reset16:
    cli
    cld
    # CMOS shutdown status: a 286-style return to real mode by way of a reset (IBM AT technical reference), or the machine wakes up
    # from S3 (QEMU and Xen set it).
    .set SHUTDOWN_EOI_JUMP, 0x05
    .set SHUTDOWN_IRET, 0x09
    .set SHUTDOWN_JUMP, 0x0a
    .set SHUTDOWN_WAKE, 0xfe
    movb $CMOS_SHUTDOWN, %al
    outb %al, $CMOS_INDEX
    inb $CMOS_DATA, %al
    movb %al, %bl
    cmpb $SHUTDOWN_WAKE, %al
    je 4f
    testb $BOOTED, %cs:(fseg_state - F000)
    jnz 2f
    testb %al, %al
    jz 1f
4:  movb $CMOS_SHUTDOWN, %al
    outb %al, $CMOS_INDEX
    movb $0, %al
    outb %al, $CMOS_DATA
    cmpb $SHUTDOWN_WAKE, %bl
    je wake
    cmpb $SHUTDOWN_EOI_JUMP, %bl
    je resume_eoi
    cmpb $SHUTDOWN_JUMP, %bl
    je resume_jump
    cmpb $SHUTDOWN_IRET, %bl
    je resume_iret
1:
cold_start:
    lgdtl %cs:(rom_gdtr - F000)
    # Reset leaves nothing that is worth a read, which is an exit to a hypervisor.
    movl $(CR0_REAL | CR0_PE), %eax
    movl %eax, %cr0
    ljmpl $CODE_32, $(reset32 - F000 + ROM_END)

restart:
2:  movw $RESET_CONTROL, %dx
    movb $HARD_RESET, %al
    outb %al, %dx
    movb $(HARD_RESET | RESET_CPU), %al
    outb %al, %dx
    movb $PS2_RESET_CPU, %al
    outb %al, $PS2_COMMAND
3:  hlt
    jmp 3b

resume_eoi:
    movb $PIC_END_OF_INTERRUPT, %al
    outb %al, $PIC_SLAVE
    outb %al, $PIC_MASTER
resume_jump:
    movw $BDA_SEGMENT, %ax
    movw %ax, %ds
    ljmpw *BDA_RESTART_POINTER
resume_iret:
    movw $BDA_SEGMENT, %ax
    movw %ax, %ds
    lssw BDA_RESTART_POINTER, %sp
    popw %ds
    popw %es
    popaw
    iretw

# Waking up: memory is as it was, the machine is as after reset. Makes the F segment RAM again, where it is not (the registers
# are those of chipset.rs), and goes on in Rust. Where RAM has no firmware that could, this is a start like any other.
wake:
    testb $INSTALLED, %cs:(fseg_state - F000)
    jnz 2f
    movw $PCI_ADDRESS, %dx
    movl $PCI_ENABLE, %eax
    outl %eax, %dx
    movw $PCI_DATA, %dx
    inl %dx, %eax
    movl $I440FX_PAM, %ebx
    movl $I440FX_PAM_LOW, %ecx
    movl $I440FX_PAM_HIGH, %esi
    cmpl $I440FX_ID, %eax
    je 1f
    movl $Q35_PAM, %ebx
    movl $Q35_PAM_LOW, %ecx
    movl $Q35_PAM_HIGH, %esi
    cmpl $Q35_ID, %eax
    jne cold_start
1:  movw $PCI_ADDRESS, %dx
    movl %ebx, %eax
    outl %eax, %dx
    movw $PCI_DATA, %dx
    movl %ecx, %eax
    outl %eax, %dx
    movw $PCI_ADDRESS, %dx
    leal 4(%ebx), %eax
    outl %eax, %dx
    movw $PCI_DATA, %dx
    movl %esi, %eax
    outl %eax, %dx
2:  movw $F_SEGMENT, %ax
    movw %ax, %ds
    testb $INSTALLED, fseg_state - F000
    jz cold_start
    movl %cr0, %eax
    andl $CR0_CACHED, %eax
    movl %eax, %cr0
    movw $DATA_SEGMENT, %ax
    movw %ax, %ss
    movl $WAKE_STACK, %esp
    ljmpw $F_SEGMENT, $(1f - F000)
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
    pushw $VECTOR_WAKE
    jmp bridge

# The guest goes on where EAX says, a segment and an offset. All else is zero but the stack pointer, as SeaBIOS leaves it; no memory
# of the guest's is used.
    .globl awake
awake:
    ljmpw $DATA_SEGMENT, $(1f - EF00)
1:  movl %eax, %cs:(v_chain)
    movl $0, %eax                       # which leaves the flags alone
    movw %ax, %ss
    movl $EARLY_STACK, %esp
    ljmpw *%cs:(v_chain)

    .code32
reset32:
    movl $DATA_32, %eax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $EARLY_STACK, %esp
    # RAM above 16 MiB in 64 KiB units, or above 1 MiB in KiB, for smaller machines.
    movb $(CMOS_ABOVE_16_MIB + 1), %al
    outb %al, $CMOS_INDEX
    inb $CMOS_DATA, %al
    movb %al, %dh
    movb $CMOS_ABOVE_16_MIB, %al
    outb %al, $CMOS_INDEX
    inb $CMOS_DATA, %al
    movb %al, %dl
    movzwl %dx, %edx
    testl %edx, %edx
    jz 1f
    shll $16, %edx
    addl $(16 * ONE_MIB), %edx
    jmp 2f
1:  movb $(CMOS_ABOVE_1_MIB + 1), %al
    outb %al, $CMOS_INDEX
    inb $CMOS_DATA, %al
    movb %al, %dh
    movb $CMOS_ABOVE_1_MIB, %al
    outb %al, $CMOS_INDEX
    inb $CMOS_DATA, %al
    movb %al, %dl
    shll $10, %edx
    addl $ONE_MIB, %edx
2:  xorl %ebx, %ebx
    jmp entry32

# Where application processors start (their start-up message names this page): load the MSRs that the boot processor has, count, and halt.
    .code16
    .org AP_START - CODE_OFFSET
    .globl ap_start
ap_start:
    cli
    cld
    movw $DATA_SEGMENT, %ax
    movw %ax, %ds
    movl %cr0, %eax
    andl $CR0_CACHED, %eax
    movl %eax, %cr0
    movw $ap_msrs, %si
    movw ap_msr_count, %di
1:  testw %di, %di
    jz 2f
    movl (%si), %ecx
    movl 4(%si), %eax
    movl 8(%si), %edx
    wrmsr
    addw $AP_MSR_SIZE, %si
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
