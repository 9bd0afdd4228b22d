# The entries without a fixed address: where guests start, hardware interrupts, and what leads to the bridge.

    .code16
# Where a fresh real-mode world starts: the firmware calls this once, when the machine is ready, and it never returns.
    .globl start_guest
start_guest:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $BOOT_SECTOR, %sp
    sti
    int $0x19
1:  cli
    hlt
    jmp 1b

# Likewise, into the boot program at ECX, segment in the high half, which finds ECX zero and a stack below 0000:7C00. What
# else it finds is in its registers.
    .globl start_program
start_program:
    movw $BOOT_SECTOR, %sp
    pushl %ecx
    movl $0, %ecx
    sti
    lretw

# Where the entry is in Linux setup code.
    .set LINUX_ENTRY, 0x200
# Likewise, into Linux setup code in segment DS (boot protocol, "16-bit entry"), with CX as its stack pointer.
    .globl start_linux
start_linux:
    cli
    movw %ds, %ax
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    movw %ax, %ss
    movw %cx, %sp
    addw $(LINUX_ENTRY / 16), %ax
    pushw %ax
    pushw $0
    lretw

# The timer while there is a serial console: Rust looks at the screen first, and goes on at INT 08h's own entry. Programs that
# run in virtual-8086 mode are not followed.
    .globl int08_console
int08_console:
    pushw %ax
    smsw %ax
    testb $CR0_PE, %al
    popw %ax
    jnz int08
    pushw $0x08
    jmp bridge

# Called by Rust while it waits: interrupts that are pending are served between NOP and CLI.
    .globl pending_interrupts
pending_interrupts:
    sti
    nop
    cli
    lretw

# Hardware interrupts that cost no mode switch. They work for virtual-8086 callers too.
int08:
    pushl %eax
    pushw %ds
    movw $BDA_SEGMENT, %ax
    movw %ax, %ds
    incl BDA_TICKS
    cmpl $TICKS_PER_DAY, BDA_TICKS
    jb 1f
    movl $0, BDA_TICKS
    incb BDA_MIDNIGHT
1:  cmpb $0, BDA_FLOPPY_MOTOR_TICKS
    jne floppy_tick
2:  int $0x1c
    movb $PIC_END_OF_INTERRUPT, %al
    outb %al, $PIC_MASTER
    popw %ds
    popl %eax
    iretw
# Bits of the motors that run, of which none is left.
    .set MOTORS_OFF, 0xf0
# The diskette motors: off when the ticks at 40:40 have passed (IBM PC/AT technical reference, INT 08h).
floppy_tick:
    decb BDA_FLOPPY_MOTOR_TICKS
    jnz 2b
    pushw %dx
    andb $MOTORS_OFF, BDA_FLOPPY_MOTORS
    movw $FLOPPY_OUTPUT, %dx
    inb %dx, %al
    andb $~FLOPPY_MOTORS & 0xff, %al
    outb %al, %dx
    popw %dx
    jmp 2b

    .globl slave_irq
slave_irq:
    pushw %ax
    movb $PIC_END_OF_INTERRUPT, %al
    outb %al, $PIC_SLAVE
    outb %al, $PIC_MASTER
    popw %ax
    iretw

# Interrupts of the first controller that nothing serves, vectors 0Ah to 0Fh. Processor exceptions share these vectors, so the
# controller's in-service register tells which it is (Intel 8259A data sheet, operation command word 3). Rust is told of what is
# no interrupt.
    .balign MASTER_IRQ_SIZE
    .globl master_irqs
master_irqs:
    .irp vector, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f
    .balign MASTER_IRQ_SIZE
    pushw $(NO_INTERRUPT + \vector)
    jmp master_irq
    .endr
master_irq:
    pushw %bp
    movw %sp, %bp
    pushw %ax
    pushw %cx
    movb 2(%bp), %cl
    andb $7, %cl
    movb $PIC_READ_IN_SERVICE, %al
    outb %al, $PIC_MASTER
    inb $PIC_MASTER, %al
    shrb %cl, %al
    testb $1, %al
    jz 1f
    movb $PIC_END_OF_INTERRUPT, %al
    outb %al, $PIC_MASTER
    popw %cx
    popw %ax
    popw %bp
    addw $2, %sp
    iretw
1:  popw %cx
    popw %ax
    popw %bp
# In: the vector on the stack. Callers in virtual-8086 mode have a monitor that hears of exceptions.
no_interrupt:
    pushw %ax
    smsw %ax
    testb $CR0_PE, %al
    popw %ax
    jz bridge
    addw $2, %sp
    iretw

# IRQ 13, x87 error: clear the latch, and go on as if the processor had reported it (IBM AT technical reference).
    .set X87_LATCH, 0xf0
    .globl int75
int75:
    pushw %ax
    movb $0, %al
    outb %al, $X87_LATCH
    movb $PIC_END_OF_INTERRUPT, %al
    outb %al, $PIC_SLAVE
    outb %al, $PIC_MASTER
    popw %ax
    int $0x02
    iretw

# IRQ 14 and 15, hard disks: tell those who watch 40:8E.
    .globl int76
int76:
    pushw %ax
    pushw %ds
    movw $BDA_SEGMENT, %ax
    movw %ax, %ds
    movb $0xff, BDA_DISK_INTERRUPT
    movb $PIC_END_OF_INTERRUPT, %al
    outb %al, $PIC_SLAVE
    outb %al, $PIC_MASTER
    popw %ds
    popw %ax
    iretw

# Exceptions whose vectors no interrupt shares: divide error, invalid opcode.
    .macro exception_entry name, vector
    .globl \name
\name:
    pushw $(NO_INTERRUPT + \vector)
    jmp no_interrupt
    .endm
    exception_entry int00, 0x00
    exception_entry int06, 0x06

# Entries without a fixed address.
    .macro service name, vector
    .globl \name
\name:
    pushw $\vector
    jmp bridge
    .endm
    service int18, 0x18
    service int19_service, 0x19
    service int70, 0x70
    service int74, 0x74

# Entries that are far-called: the call becomes an interrupt whose handler returns to the RETF here. Rust finds the caller's
# arguments on its stack above FLAGS, CS, IP of the made-up interrupt and CS, IP of the call.
    .macro far_service vector
    pushfw
    pushw %cs
    pushw $(1f - F000)
    pushw $\vector
    jmp bridge
1:  lretw
    .endm
    .globl pmm_entry
pmm_entry:
    far_service VECTOR_PMM

# The Plug and Play BIOS. To callers that are not in real mode no function is supported (82h).
    .globl pnp_entry
pnp_entry:
    smsw %ax
    testb $CR0_PE, %al
    jnz 1f
    far_service VECTOR_PNP
1:  movw $0x82, %ax
    lretw
