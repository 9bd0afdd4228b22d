# The F segment: the bridge between real-mode code and 64-bit Rust, and the entries without a fixed address. `pci32.s` and
# `compat.s` go on in the same section.
#
# This section is the last of the image, so that in the ROM it ends at 4 GiB with the reset vector in place; start-up copies it
# to F000:C000. Code here refers to itself by offset in the segment (`label - F000`), so it works at either address.
#
# The bridge saves a caller in `slot` and not on the caller's stack, of which it uses four bytes; the slot is copied to the
# 64-bit stack before anything could come back here. It never loads DS, ES, FS, GS or SS with protected-mode selectors, so the
# hidden limits of an unreal-mode caller survive.

    .section .fseg, "awx", @progbits
    .code16
    .globl fseg_start
fseg_start:
    .set F000, fseg_start - 0xc000
    .set LOW, 0xf0000

# Offsets in `slot`: struct Frame of frame.rs, then what only the bridge restores.
    .set S_EAX, slot - F000
    .set S_EBX, slot - F000 + 4
    .set S_ECX, slot - F000 + 8
    .set S_EDX, slot - F000 + 12
    .set S_ESI, slot - F000 + 16
    .set S_EDI, slot - F000 + 20
    .set S_EBP, slot - F000 + 24
    .set S_ESP, slot - F000 + 28
    .set S_DS, slot - F000 + 32
    .set S_ES, slot - F000 + 34
    .set S_FS, slot - F000 + 36
    .set S_GS, slot - F000 + 38
    .set S_SS, slot - F000 + 40
    .set S_VECTOR, slot - F000 + 42
    .set S_A20_OFF, slot - F000 + 50
    .set S_CR0, slot - F000 + 52
    .set S_CR3, slot - F000 + 56
    .set S_CR4, slot - F000 + 60
    .set S_EFER, slot - F000 + 64
    .set S_GDTR, slot - F000 + 72
    .set S_IDTR, slot - F000 + 80
    .set SLOT_SIZE, 88

# Offsets in `call_slot`: struct RealRegs of hw.rs, then the rest of struct Call of bridge.rs.
    .set C_EAX, call_slot - F000
    .set C_EBX, call_slot - F000 + 4
    .set C_ECX, call_slot - F000 + 8
    .set C_EDX, call_slot - F000 + 12
    .set C_ESI, call_slot - F000 + 16
    .set C_EDI, call_slot - F000 + 20
    .set C_EBP, call_slot - F000 + 24
    .set C_DS, call_slot - F000 + 28
    .set C_ES, call_slot - F000 + 30
    .set C_IP, call_slot - F000 + 32
    .set C_FLAGS, call_slot - F000 + 36
    .set C_A20, call_slot - F000 + 38
    .set C_ESP, call_slot - F000 + 40
    .set C_SS, call_slot - F000 + 44
    .set C_KIND, call_slot - F000 + 46
    .set C_WORDS, call_slot - F000 + 48
    .set C_TICKET, call_slot - F000 + 56
    .set CALL_SIZE, 64
    .set CALL_REGS_SIZE, 40

# Sizes of the real-mode stacks that low_memory.rs and bridge.rs place: each is a power of two, at a multiple of itself.
    .set HANDLER_STACK_SHARE, 0x400
    .set ROM_STACK_SIZE, 0x1000

# Values of C_KIND: `enum Kind` of bridge.rs.
    .set KIND_ROM, 0
    .set KIND_INTERRUPT, 1
    .set KIND_WORDS, 2

    .balign 16
slot:
    .fill SLOT_SIZE, 1, 0
# struct Call of bridge.rs, for calls into real mode.
    .balign 4
call_slot:
    .fill CALL_SIZE, 1, 0

# What Rust fills in: struct Variables of bridge.rs.
    .balign 16
    .globl bridge_variables
bridge_variables:
v_stack:        .quad 0                 # top of the 64-bit stack that the next entry uses
v_dispatch:     .quad 0                 # fn(&mut Frame) -> outcome
v_cr3:          .long 0
v_pending:      .long 0                 # what came while a service ran, and the guest has to hear of
v_chain:        .long 0                 # offset and segment of the handler that outcome 2 goes on at
v_outcome:      .long 0
v_idtr:         .word 0
                .quad 0
    .balign 4
v_booted:       .long 0                 # non-zero in the copy in RAM: the machine is set up, a jump to F000:FFF0 is a reset
ap_count:       .long 0                 # APs that have parked themselves
ap_msr_count:   .long 0
ap_ids:         .fill 32, 1, 0          # a bit for each APIC ID that was seen
v_lost:         .quad 0                 # fn() -> !, for a call that returns although it was given up
v_saved:        .fill SAVED_COUNT * SAVED_SIZE, 1, 0

# struct Saved of bridge.rs: the part of the 64-bit stack that waits for a call.
    .set SAVED_TICKET, 0
    .set SAVED_BYTES, 8
    .set SAVED_QUADS, 16
    .set SAVED_RSP, 24
    .set SAVED_SIZE, 32
    .set SAVED_COUNT, 10

# Bits of v_pending, which the stubs of entry.s set.
    .set PENDING_DEBUG, 1
    .set PENDING_NMI, 2

# Null, 64-bit code, 16-bit code at F0000, flat 32-bit code, flat 32-bit data, 16-bit data with a limit of 4 GiB, and the task
# state segment, which exception.rs enters.
    .set TASK_STATE, 0x30
    .set TASK_STATE_BUSY, 2
    .set GDT_LIMIT, 8 * 8 - 1
    .balign 8
    .globl bridge_gdt
bridge_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00009b0f0000ffff
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x008f93000000ffff
    .quad 0, 0
low_gdtr:
    .word GDT_LIMIT
    .long bridge_gdt - F000 + LOW
rom_gdtr:
    .word GDT_LIMIT
    .long bridge_gdt - F000 + 0xffff0000
real_idtr:
    .word 0x3ff
    .long 0
    .balign 4
back_pointer:
    .long back16 - F000
    .word 0x10
    .balign 4
call_pointer:
    .long call16 - F000
    .word 0x10

# Makes sure that bit 20 of addresses works; uses AX, FS and GS. Sets \off to 1 if it did not.
    .macro enable_a20 off
    xorw %ax, %ax
    movw %ax, %fs
    decw %ax
    movw %ax, %gs
    movl %fs:0, %eax
    cmpl %gs:0x10, %eax
    jne 8f
    notl %fs:0
    movl %fs:0, %eax
    cmpl %gs:0x10, %eax
    notl %fs:0
    jne 8f
    inb $0x92, %al
    orb $2, %al
    andb $0xfe, %al
    outb %al, $0x92
    movw $1, %cs:(\off)
8:
    .endm

# From real mode to 64-bit code at \target; uses EAX, ECX, EDX. The rest of EFER is the last caller's, in `slot`: a read of it is an
# exit to a hypervisor. EFER.LME is never set while CR4.PAE is clear: QEMU's emulation of AMD SVM loses a hypervisor whose guest
# exits in that state.
    .macro enter_long_mode target
    movl $0x620, %eax
    movl %eax, %cr4
    movl %cs:(v_cr3 - F000), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    movl %cs:(S_EFER), %eax
    movl %cs:(S_EFER + 4), %edx
    btsl $8, %eax
    wrmsr
    lgdtl %cs:(low_gdtr - F000)
    movl $0x80000033, %eax
    movl %eax, %cr0
    ljmpl $0x08, $(\target - F000 + LOW)
    .endm

# What 64-bit code needs to take exceptions; uses ECX. The processor marked the segment busy when it was last loaded.
    .macro load_tables
    andb $~TASK_STATE_BUSY, bridge_gdt + TASK_STATE + 5(%rip)
    movl $TASK_STATE, %ecx
    ltr %cx
    lidt v_idtr(%rip)
    .endm

# Lets the guest hear of what came in the meantime, as if it came now. Its registers are all back.
    .macro tell_pending
    cmpb $0, %cs:(v_pending - F000)
    je 9f
    callw tell_pending_now
9:
    .endm

# A BIOS call: the caller's stack holds the vector, then IP, CS, FLAGS.
bridge:
    cli
    cld
    pushw %ax
    smsw %ax
    testb $1, %al
    popw %ax
    jnz protected_caller
    movl %eax, %cs:(S_EAX)
    popw %cs:(S_VECTOR)
    movl %ebx, %cs:(S_EBX)
    movl %ecx, %cs:(S_ECX)
    movl %edx, %cs:(S_EDX)
    movl %esi, %cs:(S_ESI)
    movl %edi, %cs:(S_EDI)
    movl %ebp, %cs:(S_EBP)
    movl %esp, %cs:(S_ESP)
    movw %ds, %cs:(S_DS)
    movw %es, %cs:(S_ES)
    movw %fs, %cs:(S_FS)
    movw %gs, %cs:(S_GS)
    movw %ss, %cs:(S_SS)
    sgdtl %cs:(S_GDTR)
    sidtl %cs:(S_IDTR)
    movw $0, %cs:(S_A20_OFF)
    enable_a20 S_A20_OFF
    movl %cr0, %eax
    movl %eax, %cs:(S_CR0)
    movl %cr3, %eax
    movl %eax, %cs:(S_CR3)
    movl %cr4, %eax
    movl %eax, %cs:(S_CR4)
    movl $0xc0000080, %ecx
    rdmsr
    movl %eax, %cs:(S_EFER)
    movl %edx, %cs:(S_EFER + 4)
    enter_long_mode bridge64

    .code64
bridge64:
    load_tables
    movq v_stack(%rip), %rsp
    andq $-16, %rsp
    subq $(512 + 96), %rsp
    fxsave (%rsp)
    # A page fault of ours changes it.
    movq %cr2, %rax
    movq %rax, (512 + SLOT_SIZE)(%rsp)
    leaq slot(%rip), %rsi
    leaq 512(%rsp), %rdi
    movl $(SLOT_SIZE / 8), %ecx
    rep movsq
    leaq 512(%rsp), %rdi
    xorl %ebp, %ebp
    call *v_dispatch(%rip)
    movl %eax, v_outcome(%rip)
    leaq 512(%rsp), %rsi
    leaq slot(%rip), %rdi
    movl $(SLOT_SIZE / 8), %ecx
    rep movsq
    movq (512 + SLOT_SIZE)(%rsp), %rax
    movq %rax, %cr2
    fxrstor (%rsp)
    ljmpl *back_pointer(%rip)

    .code16
back16:
    movl %cs:(S_CR0), %eax
    movl %eax, %cr0
    ljmpw $0xf000, $(1f - F000)
    # First of all the stack and the vectors, since an NMI may come.
1:  movw %cs:(S_SS), %ss
    movl %cs:(S_ESP), %esp
    lidtl %cs:(S_IDTR)
    movl $0xc0000080, %ecx
    movl %cs:(S_EFER), %eax
    movl %cs:(S_EFER + 4), %edx
    wrmsr
    movl %cs:(S_CR4), %eax
    movl %eax, %cr4
    movl %cs:(S_CR3), %eax
    movl %eax, %cr3
    lgdtl %cs:(S_GDTR)
    cmpw $0, %cs:(S_A20_OFF)
    je 1f
    inb $0x92, %al
    andb $0xfc, %al
    outb %al, $0x92
1:  movw %cs:(S_DS), %ds
    movw %cs:(S_ES), %es
    movw %cs:(S_FS), %fs
    movw %cs:(S_GS), %gs
    movl %cs:(S_EBX), %ebx
    movl %cs:(S_ECX), %ecx
    movl %cs:(S_EDX), %edx
    movl %cs:(S_ESI), %esi
    movl %cs:(S_EDI), %edi
    movl %cs:(S_EBP), %ebp
    movl %cs:(S_EAX), %eax
    cmpw $1, %cs:(v_outcome - F000)
    je 1f
    ja 2f
    tell_pending
    iretw
1:  pushw %cs:(S_VECTOR)
    tell_pending
    sti
    hlt
    jmp bridge
2:  pushw %cs:(v_chain - F000 + 2)
    pushw %cs:(v_chain - F000)
    tell_pending
    lretw

tell_pending_now:
    testb $PENDING_DEBUG, %cs:(v_pending - F000)
    jz 1f
    andb $~PENDING_DEBUG, %cs:(v_pending - F000)
    int $0x01
1:  testb $PENDING_NMI, %cs:(v_pending - F000)
    jz 1f
    andb $~PENDING_NMI, %cs:(v_pending - F000)
    int $0x02
1:  retw

# Virtual-8086 and protected-mode callers: CF, AH = 86h (function not supported).
protected_caller:
    addw $2, %sp
    pushw %bp
    movw %sp, %bp
    orw $1, 6(%bp)
    popw %bp
    movb $0x86, %ah
    iretw

# Calls real-mode code: RDI = struct Call, RSI = its struct Saved, or 0 for code that never returns. A ROM starts with limits of
# 4 GiB, others with those that were there. The 64-bit stack goes to `Saved`, so that others have all of it meanwhile.
    .code64
    .globl bridge_call
bridge_call:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushq %rdi
    movq %rsi, %rbx
    movq %rdi, %rsi
    leaq call_slot(%rip), %rdi
    movl $(CALL_SIZE / 8), %ecx
    rep movsq
    testq %rbx, %rbx
    jz 1f
    movq %rsp, SAVED_RSP(%rbx)
    movq SAVED_QUADS(%rbx), %rcx
    leaq (, %rcx, 8), %rax
    movq v_stack(%rip), %rsi
    subq %rax, %rsi
    movq SAVED_BYTES(%rbx), %rdi
    rep movsq
1:  ljmpl *call_pointer(%rip)

    .code16
call16:
    cmpw $KIND_ROM, %cs:(C_KIND)
    jne 1f
    movw $0x28, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    movw %ax, %ss
1:  movl $0x10, %eax
    movl %eax, %cr0
    ljmpw $0xf000, $(1f - F000)
1:  movw %cs:(C_SS), %ss
    movl %cs:(C_ESP), %esp
    lidtl %cs:(real_idtr - F000)
    movl $0xc0000080, %ecx
    movl %cs:(S_EFER), %eax
    movl %cs:(S_EFER + 4), %edx
    wrmsr
    xorl %eax, %eax
    movl %eax, %cr4
    movw %ax, %fs
    movw %ax, %gs
    pushw %cs:(C_TICKET)
    cmpw $KIND_WORDS, %cs:(C_KIND)
    jne 1f
    pushw %cs:(C_WORDS)
    pushw %cs:(C_WORDS + 2)
    pushw %cs:(C_WORDS + 4)
    pushw %cs:(C_WORDS + 6)
1:  movw %cs:(C_DS), %ds
    movw %cs:(C_ES), %es
    movl %cs:(C_EBX), %ebx
    movl %cs:(C_ECX), %ecx
    movl %cs:(C_EDX), %edx
    movl %cs:(C_ESI), %esi
    movl %cs:(C_EDI), %edi
    movl %cs:(C_EBP), %ebp
    movl %cs:(C_EAX), %eax
    pushw %cs:(C_FLAGS)
    cmpw $KIND_INTERRUPT, %cs:(C_KIND)
    je 2f
    popfw
2:  lcallw *%cs:(C_IP)
    pushfw
    cli
    cld
    popw %cs:(C_FLAGS)
    movl %eax, %cs:(C_EAX)
    movl %ebx, %cs:(C_EBX)
    movl %ecx, %cs:(C_ECX)
    movl %edx, %cs:(C_EDX)
    movl %esi, %cs:(C_ESI)
    movl %edi, %cs:(C_EDI)
    movl %ebp, %cs:(C_EBP)
    movw %ds, %cs:(C_DS)
    movw %es, %cs:(C_ES)
    # Whose return this is stands in the last word of its part of the stack.
    movw %sp, %bx
    decw %bx
    movw %ss, %ax
    testw %ax, %ax
    jz 1f
    orw $(HANDLER_STACK_SHARE - 1), %bx
    jmp 2f
1:  orw $(ROM_STACK_SIZE - 1), %bx
2:  movw %ss:-1(%bx), %ax
    movw %ax, %cs:(C_TICKET)
    enable_a20 C_A20
    enter_long_mode call_return

    .code64
call_return:
    load_tables
    movq v_stack(%rip), %rsp
    movq call_slot + C_TICKET - C_EAX(%rip), %rax
    leaq v_saved(%rip), %rbx
    movl $SAVED_COUNT, %ecx
1:  cmpq %rax, SAVED_TICKET(%rbx)
    je 2f
    addq $SAVED_SIZE, %rbx
    decl %ecx
    jnz 1b
    call *v_lost(%rip)
2:  movq SAVED_QUADS(%rbx), %rcx
    leaq (, %rcx, 8), %rax
    movq %rsp, %rdi
    subq %rax, %rdi
    movq SAVED_BYTES(%rbx), %rsi
    rep movsq
    movq SAVED_RSP(%rbx), %rsp
    popq %rdi
    leaq call_slot(%rip), %rsi
    movl $(CALL_REGS_SIZE / 8), %ecx
    rep movsq
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

    .code16
# Where a fresh real-mode world starts: the firmware calls this once, when the machine is ready, and it never returns.
    .globl start_guest
start_guest:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7c00, %sp
    sti
    int $0x19
1:  cli
    hlt
    jmp 1b

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
    addw $0x20, %ax
    pushw %ax
    pushw $0
    lretw

# The timer while there is a serial console: Rust looks at the screen first, and goes on at INT 08h's own entry. Programs that
# run in virtual-8086 mode are not followed.
    .globl int08_console
int08_console:
    pushw %ax
    smsw %ax
    testb $1, %al
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
    movw $0x40, %ax
    movw %ax, %ds
    incl 0x6c
    cmpl $0x1800b0, 0x6c
    jb 1f
    movl $0, 0x6c
    incb 0x70
1:  cmpb $0, 0x40
    jne floppy_tick
2:  int $0x1c
    movb $0x20, %al
    outb %al, $0x20
    popw %ds
    popl %eax
    iretw
# The diskette motors: off when the ticks at 40:40 have passed (IBM PC/AT technical reference, INT 08h).
    .set FLOPPY_OUTPUT, 0x3f2
    .set FLOPPY_MOTORS, 0x30
floppy_tick:
    decb 0x40
    jnz 2b
    pushw %dx
    andb $0xf0, 0x3f
    movw $FLOPPY_OUTPUT, %dx
    inb %dx, %al
    andb $~FLOPPY_MOTORS & 0xff, %al
    outb %al, %dx
    popw %dx
    jmp 2b

    .globl slave_irq
slave_irq:
    pushw %ax
    movb $0x20, %al
    outb %al, $0xa0
    outb %al, $0x20
    popw %ax
    iretw

# Interrupts of the first controller that nothing serves, vectors 0Ah to 0Fh. Processor exceptions share these vectors, so the
# controller's in-service register tells which it is (Intel 8259A data sheet, operation command word 3). Rust is told of what is
# no interrupt.
    .set PIC_COMMAND, 0x20
    .set PIC_READ_IN_SERVICE, 0x0b
    .set PIC_END_OF_INTERRUPT, 0x20
    .set NO_INTERRUPT, 0x200
    .balign 8
    .globl master_irqs
master_irqs:
    .irp vector, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f
    .balign 8
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
    outb %al, $PIC_COMMAND
    inb $PIC_COMMAND, %al
    shrb %cl, %al
    testb $1, %al
    jz 1f
    movb $PIC_END_OF_INTERRUPT, %al
    outb %al, $PIC_COMMAND
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
    testb $1, %al
    popw %ax
    jz bridge
    addw $2, %sp
    iretw

# IRQ 13, x87 error: clear the latch, and go on as if the processor had reported it (IBM AT technical reference).
    .globl int75
int75:
    pushw %ax
    movb $0, %al
    outb %al, $0xf0
    movb $0x20, %al
    outb %al, $0xa0
    outb %al, $0x20
    popw %ax
    int $0x02
    iretw

# IRQ 14 and 15, hard disks: tell those who watch 40:8E.
    .globl int76
int76:
    pushw %ax
    pushw %ds
    movw $0x40, %ax
    movw %ax, %ds
    movb $0xff, 0x8e
    movb $0x20, %al
    outb %al, $0xa0
    outb %al, $0x20
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
    .macro far_service name, vector
    .globl \name
\name:
    pushfw
    pushw %cs
    pushw $(1f - F000)
    pushw $\vector
    jmp bridge
1:  lretw
    .endm
    far_service pmm_entry, 0x101

# The Plug and Play BIOS, for real and 16-bit protected mode: no function is supported (82h).
    .globl pnp_entry
pnp_entry:
    movw $0x82, %ax
    lretw

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
    cmpw $0, %cs:(v_booted - F000)
    jne 2f
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
    cmpl $0, %cs:(v_dispatch - F000)
    jne 2f
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
    cmpl $0, v_dispatch - F000
    je cold_start
    movl %cr0, %eax
    andl $0x9fffffff, %eax
    movl %eax, %cr0
    movw $0xf000, %ax
    movw %ax, %ss
    movl $0xc000, %esp
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
    movl %eax, %cs:(v_chain - F000)
    movl $0, %eax                       # which leaves the flags alone
    movw %ax, %ss
    movl $0x7000, %esp
    ljmpw *%cs:(v_chain - F000)

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
    movw $0xf000, %ax
    movw %ax, %ds
    movl %cr0, %eax
    andl $0x9fffffff, %eax
    movl %eax, %cr0
    movw $(ap_msrs - F000), %si
    movw (ap_msr_count - F000), %di
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
    lock btsl %ebx, (ap_ids - F000)
    lock incl (ap_count - F000)
3:  cli
    hlt
    jmp 3b
    .balign 4
    .globl ap_msrs
ap_msrs:
    .fill 48 * 12, 1, 0
