# The way from the first instruction to 64-bit Rust.
#
# Two starts, one path: the reset vector (16-bit, in ROM) and the ELF entry that Xen's domain builder enters (32-bit, EBX =
# physical address of hvm_start_info). Both find the end of low RAM, and `entry32` copies the image to its top, relocates it
# and goes on there. Nothing here knows where the image was loaded.
#
# From ROM, which stays where it is, most of the code and of the read-only data is copied page by page when it is first touched:
# each page of ROM is an exit to a hypervisor, and a boot does without half of them.

    .section .text.entry, "ax", @progbits

# Xen public header hvm/hvm_info_table.h: the table is at 0x9f800, low_mem_pgend is its field at offset 20.
    .set HVM_INFO_LOW_MEM_PGEND, 0x9f800 + 20
# The stack that the 32-bit code uses, in low RAM that nothing else uses this early.
    .set BOOT_STACK, 0x7000

    .set ONE_MIB, 0x100000
# While the firmware finds out what to boot, its heap takes this part of RAM beside the least, and not more than there is use for.
    .set HEAP_SHARE_SHIFT, 5
    .set HEAP_MOST_EXTRA, 2 << 20
    .set EFLAGS_ID, 1 << 21
# CPUID leaf 80000001h, EDX.
    .set CPUID_LONG_MODE, 1 << 29
    .set CPUID_PAGES_1_GIB, 1 << 26

    .code32
    .globl xen_entry
xen_entry:
    cli
    cld
    movl $BOOT_STACK, %esp
    movl HVM_INFO_LOW_MEM_PGEND, %edx
    # Xen may still have to grow the hole below 4 GiB down to 2 GiB, and moves RAM then: stay below.
    cmpl $0x80000, %edx
    jbe 1f
    movl $0x80000, %edx
1:  shll $12, %edx

# In: EBX = start_info or 0, EDX = end of low RAM, ESP = a small stack.
# Page tables come first, in their final place, so that 64-bit code can do the copying, eight bytes a step.
    .globl entry32
entry32:
    call 1f
1:  popl %ebp
    # A processor that has CPUID lets this flag change (Intel SDM volume 1, 3.4.3.3).
    pushfl
    popl %eax
    movl %eax, %ecx
    xorl $EFLAGS_ID, %eax
    pushl %eax
    popfl
    pushfl
    popl %eax
    pushl %ecx
    popfl
    leal (no_long_mode - 1b)(%ebp), %esi
    cmpl %ecx, %eax
    je cannot_run
    movl %ebx, %edi
    movl %edx, %ecx
    pushl %ecx
    movl $0x80000001, %eax
    cpuid
    popl %ecx
    testl $CPUID_LONG_MODE, %edx
    jz cannot_run
    movl %edi, %ebx
    pushl %edx
    movl %ecx, %edx
    leal (image_start - 1b)(%ebp), %esi
    leal (resident_end - 1b)(%ebp), %eax
    subl %esi, %eax
    movl %edx, %ecx
    shrl $HEAP_SHARE_SHIFT, %ecx
    cmpl $HEAP_MOST_EXTRA, %ecx
    jbe 2f
    movl $HEAP_MOST_EXTRA, %ecx
2:  andl $0xfffff000, %ecx
    addl %ecx, %eax
    movl %edx, %edi
    subl %eax, %edi
    andl $0xfffff000, %edi
    cmpl $ONE_MIB, %edi
    jae 2f
    leal (too_little_memory - 1b)(%ebp), %esi
    jmp cannot_run
2:
    leal (heap_extra - 1b)(%ebp), %eax
    subl %esi, %eax
    movl %ecx, (%edi, %eax)
    # From here EDI = new base. ESP: page tables, new base, start_info, CPUID 80000001h EDX.
    pushl %ebx
    pushl %edi
    leal (page_tables - 1b)(%ebp), %eax
    subl %esi, %eax
    addl %eax, %edi
    pushl %edi

    # Everything below 4 GiB maps to itself; with 1 GiB pages, everything below 512 GiB.
    movl $(2 * 4096 / 4), %ecx
    xorl %eax, %eax
    rep stosl
    movl (%esp), %edi
    leal 0x1003(%edi), %eax
    movl %eax, (%edi)
    addl $0x1000, %edi
    testl $CPUID_PAGES_1_GIB, 12(%esp)
    jz 3f
    movl $0x83, %eax
    xorl %edx, %edx
    movl $512, %ecx
2:  movl %eax, (%edi)
    movl %edx, 4(%edi)
    addl $8, %edi
    addl $0x40000000, %eax
    adcl $0, %edx
    decl %ecx
    jnz 2b
    movl $0x620, %eax                   # CR4: PAE, OSFXSR, OSXMMEXCPT
    movl %eax, %cr4
    jmp 5f

3:  leal 0x1003(%edi), %eax
    movl %eax, (%edi)
    addl $0x1000, %eax
    movl %eax, 8(%edi)
    addl $0x1000, %eax
    movl %eax, 16(%edi)
    addl $0x1000, %eax
    movl %eax, 24(%edi)
    addl $0x1000, %edi
    movl $0x620, %eax
    movl %eax, %cr4
    movups (first_pages - 1b)(%ebp), %xmm0
    movups (next_pages - 1b)(%ebp), %xmm1
    movl $(2048 / 8), %ecx
4:  .irp offset, 0, 16, 32, 48
    movups %xmm0, \offset(%edi)
    paddd %xmm1, %xmm0
    .endr
    addl $64, %edi
    decl %ecx
    jnz 4b

5:  popl %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx              # EFER.LME
    rdmsr
    btsl $8, %eax
    wrmsr
    popl %edi
    popl %ebx

    leal (bridge_gdt - 1b)(%ebp), %eax
    pushl %eax
    pushw $(6 * 8 - 1)
    lgdt (%esp)
    addl $6, %esp
    movl $0x80000033, %eax              # CR0: PG, NE, ET, MP, PE
    movl %eax, %cr0
    leal (copy64 - 1b)(%ebp), %eax
    pushl $0x08
    pushl %eax
    lretl

# Says on the debug ports, ours and SeaBIOS's, and on COM1 why nothing can run here, and stops. ESI: the text, which a zero ends.
    .set DEBUG_PORT, 0xe9
    .set SEABIOS_DEBUG_PORT, 0x402
    .set COM1, 0x3f8
    .set UART_LINE_CONTROL, COM1 + 3
    .set UART_LINE_STATUS, COM1 + 5
    .set UART_DIVISOR_LATCH, 1 << 7
    .set UART_8_BITS, 3
    .set UART_ROOM, 1 << 5
cannot_run:
    movw $UART_LINE_CONTROL, %dx
    movb $UART_DIVISOR_LATCH, %al
    outb %al, %dx
    movw $COM1, %dx
    movb $1, %al                        # 115,200 baud
    outb %al, %dx
    incl %edx
    movb $0, %al
    outb %al, %dx
    movw $UART_LINE_CONTROL, %dx
    movb $UART_8_BITS, %al
    outb %al, %dx
1:  lodsb
    testb %al, %al
    jz 3f
    outb %al, $DEBUG_PORT
    movw $SEABIOS_DEBUG_PORT, %dx
    outb %al, %dx
    movb %al, %bl
    movw $UART_LINE_STATUS, %dx
    movl $0x10000, %ecx
2:  inb %dx, %al
    testb $UART_ROOM, %al
    loopz 2b
    movb %bl, %al
    movw $COM1, %dx
    outb %al, %dx
    jmp 1b
3:  cli
    hlt
    jmp 3b

no_long_mode:
    .asciz "firstlight: cannot run: the processor has no 64-bit mode (QEMU: -cpu qemu64)\r\n"
too_little_memory:
    .asciz "firstlight: cannot run: too little memory (QEMU: -m 2 at least)\r\n"

# Page directory entries of the first 4 MiB, and the distance to the next ones.
    .balign 16
first_pages:
    .long 0x000083, 0, 0x200083, 0
next_pages:
    .long 0x400000, 0, 0x400000, 0

# Bytes of the heap behind its end. This and what follows is neither copied nor cleared.
    .pushsection .noinit, "aw", @nobits
    .balign 8
    .globl heap_extra
heap_extra:
    .skip 8
    .popsection

    .code64
# Still the old image. EDI = new base, EBX = start_info.
copy64:
    movl %edi, %edi
    movq %rdi, %rdx
    leaq image_start(%rip), %rsi
    movq %rdi, %rbp
    subq %rsi, %rbp                     # RBP = distance from the old image to the new one
    testl %ebx, %ebx
    jnz 1f                              # What Xen has loaded is the guest's memory.
    leaq resident_end - 1(%rip), %rax
    addq %rbp, %rax
    xorq %rdx, %rax
    shrq $30, %rax
    jnz 1f                              # There is one page directory for the image.
    call leave_out
    movq %rdx, %rdi
    leaq image_start(%rip), %rsi
    leaq lazy_start(%rip), %rcx
    call copy_to
    leaq lazy_end(%rip), %rsi
    andq $-PAGE, %rsi
    leaq (%rsi, %rbp), %rdi
1:  leaq image_file_end(%rip), %rcx
    call copy_to
    leaq distance(%rip), %rax
    movq %rbp, (%rax, %rbp)
    leaq image_in_place(%rip), %rax
    addq %rbp, %rax
    jmp *%rax

# Copies from RSI to RDI until RSI is RCX.
copy_to:
    subq %rsi, %rcx
    shrq $3, %rcx
    rep movsq
    ret

    .set PAGE, 4096
    .set LARGE_PAGE, 0x200000
# Places in the page tables: the directory for an image in a gigabyte that has none, the tables of the 4 MiB with the image.
    .set DIRECTORY, 2 * PAGE
    .set IMAGE_TABLES, 7 * PAGE
# Bits of their entries.
    .set PRESENT, 1 << 0
    .set WRITABLE, 1 << 1
    .set LARGE, 1 << 7

# Maps the new image, whose base is RDX, by pages of 4 KiB, but for those that are copied later. Changes RAX, RCX, RDI and R8 to R10.
leave_out:
    leaq page_tables(%rip), %r8
    addq %rbp, %r8
    movq %rdx, %rax
    shrq $30, %rax
    leaq PAGE(%r8, %rax, 8), %r9        # R9 = entry of the gigabyte
    movq (%r9), %rax
    testb $LARGE, %al
    jz 2f
    leaq DIRECTORY(%r8), %rdi
    leaq (PRESENT | WRITABLE)(%rdi), %r10
    movl $512, %ecx
1:  stosq
    addq $LARGE_PAGE, %rax
    decl %ecx
    jnz 1b
    movq %r10, (%r9)
2:  movq (%r9), %r9
    andq $-PAGE, %r9                    # R9 = page directory

    leaq IMAGE_TABLES(%r8), %rdi
    movq %rdx, %rax
    andq $-LARGE_PAGE, %rax
    orq $(PRESENT | WRITABLE), %rax
    movl $(2 * 512), %ecx
3:  stosq
    addq $PAGE, %rax
    decl %ecx
    jnz 3b
    leaq lazy_start(%rip), %rax
    leaq lazy_end(%rip), %rcx
    subq %rax, %rcx
    shrq $12, %rcx
    addq %rbp, %rax
    movq %rdx, %rdi
    andq $-LARGE_PAGE, %rdi
    subq %rdi, %rax
    shrq $12, %rax
    leaq IMAGE_TABLES(%r8, %rax, 8), %rax
4:  andb $~PRESENT, (%rax)
    addq $8, %rax
    decl %ecx
    jnz 4b

    movq %rdx, %rax
    shrq $21, %rax
    andl $511, %eax
    leaq (%r9, %rax, 8), %rax           # RAX = entry of the image's first 2 MiB
    leaq (IMAGE_TABLES + (PRESENT | WRITABLE))(%r8), %rcx
    movq %rcx, (%rax)
    leaq resident_end - 1(%rip), %rdi
    addq %rbp, %rdi
    xorq %rdx, %rdi
    shrq $21, %rdi
    jz 5f
    addq $PAGE, %rcx
    movq %rcx, 8(%rax)
5:  movq %cr3, %rax
    movq %rax, %cr3
    ret

# The new image. `cargo xtask bench --xen` knows by this, its first instruction, where it lies.
    .globl image_in_place
image_in_place:
    leaq bss_start(%rip), %rdi
    leaq bss_end(%rip), %rcx
    subq %rdi, %rcx
    shrq $3, %rcx
    xorl %eax, %eax
    rep stosq

    # Elf64_Relr: an even word is the address of a word to relocate; an odd one has a bit for each of the 63 words after
    # the last one that was spoken of. Relocated words get the base added to them.
    leaq relr_start(%rip), %rsi
    leaq relr_end(%rip), %rcx
2:  cmpq %rcx, %rsi
    jae entry64
    lodsq
    testb $1, %al
    jnz 3f
    addq %rdx, (%rax, %rdx)
    leaq 8(%rax, %rdx), %rdi
    jmp 2b
3:  movq %rdi, %r8
4:  shrq $1, %rax
    jz 6f
    testb $1, %al
    jz 5f
    addq %rdx, (%r8)
5:  addq $8, %r8
    jmp 4b
6:  addq $(63 * 8), %rdi
    jmp 2b

entry64:
    leaq stack_top(%rip), %rsp
    leaq bridge_gdt(%rip), %rax
    pushq %rax
    pushw $GDT_LIMIT
    lgdt (%rsp)
    addq $10, %rsp

    # The first table of exceptions has page faults only, whose handler has a stack of its own: see exception.rs for the others.
    leaq page_stack_top(%rip), %rax
    movq %rax, first_task + TASK_STACK_2(%rip)
    leaq first_task(%rip), %rax
    movw $(TASK_SIZE - 1), bridge_gdt + TASK_STATE(%rip)
    movw %ax, bridge_gdt + TASK_STATE + 2(%rip)
    shrl $16, %eax
    movb %al, bridge_gdt + TASK_STATE + 4(%rip)
    movb $0x89, bridge_gdt + TASK_STATE + 5(%rip)
    movb %ah, bridge_gdt + TASK_STATE + 7(%rip)
    movl $TASK_STATE, %eax
    ltr %ax
    leaq exception_stubs + PAGE_FAULT * 16(%rip), %rax
    leaq first_gates + PAGE_FAULT * 16(%rip), %rcx
    movw %ax, (%rcx)
    shrl $16, %eax
    movw $0x08, 2(%rcx)
    movw $0x8e02, 4(%rcx)
    movw %ax, 6(%rcx)
    leaq first_gates(%rip), %rax
    pushq %rax
    pushw $((PAGE_FAULT + 1) * 16 - 1)
    lidt (%rsp)
    addq $10, %rsp
    # Real mode keeps the limits that were last loaded in protected mode. Option ROMs and boot programs have always found 4 GiB
    # here (SeaBIOS leaves them so), and some do not work without.
    movl $0x28, %eax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    movw %ax, %ss
    xorl %ebp, %ebp
    movl %ebx, %edi
    call firstlight_main
    ud2

# Exceptions: vector and error code go on the stack, then Rust reports and stops.
    .macro exception vector, has_error
    .balign 16
    .if \has_error == 0
    pushq $0
    .endif
    pushq $\vector
    jmp exception_common
    .endm

    .balign 16
    .globl exception_stubs
exception_stubs:
    exception 0, 0
# Breakpoints that a guest has set on what a service touches, and non-maskable interrupts: the guest hears of them when the
# service is done. They have a stack of their own, since Rust writes below RSP. The caller's SS is a real-mode segment, which IRET
# would take for a selector: it gets one with the widest limit, to which the way back to real mode adds its base.
    .set RFLAGS_RESUME, 1 << 16
    .set FLAT_16_BIT_DATA, 0x28
    .balign 16
    jmp debug_in_service
    .balign 16
    jmp nmi_in_service
    exception 3, 0
    exception 4, 0
    exception 5, 0
    exception 6, 0
    exception 7, 0
    exception 8, 1
    exception 9, 0
    exception 10, 1
    exception 11, 1
    exception 12, 1
    exception 13, 1
    .balign 16
    jmp page_fault
    exception 15, 0
    exception 16, 0
    exception 17, 1
    exception 18, 0
    exception 19, 0
    exception 20, 0
    exception 21, 1
    exception 22, 0
    exception 23, 0
    exception 24, 0
    exception 25, 0
    exception 26, 0
    exception 27, 0
    exception 28, 0
    exception 29, 1
    exception 30, 1
    exception 31, 0

debug_in_service:
    movq $FLAT_16_BIT_DATA, 32(%rsp)
    orq $RFLAGS_RESUME, 16(%rsp)
    orb $PENDING_DEBUG, DATA + v_pending
    iretq
nmi_in_service:
    movq $FLAT_16_BIT_DATA, 32(%rsp)
    orb $PENDING_NMI, DATA + v_pending
    iretq

# A page of the image that is touched for the first time is copied to its place. The interrupted code's SS is as above.
    .set PAGE_FAULT, 14
page_fault:
    testb $PRESENT, (%rsp)
    jnz 2f
    pushq %rax
    pushq %rcx
    pushq %rsi
    pushq %rdi
    movq %cr2, %rdi
    andq $-PAGE, %rdi
    leaq lazy_start(%rip), %rax
    cmpq %rax, %rdi
    jb 1f
    leaq lazy_end(%rip), %rax
    cmpq %rax, %rdi
    jae 1f
    leaq image_start(%rip), %rax
    andq $-LARGE_PAGE, %rax
    subq %rdi, %rax
    negq %rax
    shrq $12, %rax
    leaq page_tables(%rip), %rcx
    orb $PRESENT, IMAGE_TABLES(%rcx, %rax, 8)
    movq %rdi, %rsi
    subq distance(%rip), %rsi
    movl $(PAGE / 8), %ecx
    cld
    rep movsq
    popq %rdi
    popq %rsi
    popq %rcx
    popq %rax
    addq $8, %rsp
    movq $FLAT_16_BIT_DATA, 32(%rsp)
    iretq
1:  popq %rdi
    popq %rsi
    popq %rcx
    popq %rax
2:  pushq $PAGE_FAULT
    jmp exception_common

    .section .data.entry, "aw", @progbits
# From the image's old place to its new one.
    .balign 8
distance:
    .quad 0

    .section .bss.entry, "aw", @nobits
    .set TASK_SIZE, 104
    .set TASK_STACK_2, 44
    .balign 16
first_task:
    .fill TASK_SIZE, 1, 0
    .balign 16
first_gates:
    .fill (PAGE_FAULT + 1) * 16, 1, 0

# Deep enough to say what went wrong in the handler above.
    .section .noinit.entry, "aw", @nobits
    .balign 16
    .fill 8192, 1, 0
    .globl page_stack_top
page_stack_top:

    .section .text.entry, "ax", @progbits
    .balign 16
exception_common:
    pushq %r15
    pushq %r14
    pushq %r13
    pushq %r12
    pushq %r11
    pushq %r10
    pushq %r9
    pushq %r8
    pushq %rbp
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %rbx
    pushq %rax
    movq %rsp, %rdi
    andq $-16, %rsp
    cld
    call firstlight_exception
    ud2

# The C library's memory functions, which the compiler calls.
    .globl memcpy
memcpy:
    movq %rdi, %rax
copy_forward:
    movq %rdx, %rcx
    shrq $3, %rcx
    rep movsq
    movl %edx, %ecx
    andl $7, %ecx
    rep movsb
    ret

    .globl memmove
memmove:
    movq %rdi, %rax
    movq %rdi, %rcx
    subq %rsi, %rcx
    cmpq %rdx, %rcx
    jae copy_forward
    leaq -1(%rdi, %rdx), %rdi
    leaq -1(%rsi, %rdx), %rsi
    movq %rdx, %rcx
    std
    rep movsb
    cld
    ret

    .globl memset
memset:
    movq %rdi, %r8
    movzbl %sil, %eax
    movabsq $0x0101010101010101, %rcx
    imulq %rcx, %rax
    movq %rdx, %rcx
    shrq $3, %rcx
    rep stosq
    movl %edx, %ecx
    andl $7, %ecx
    rep stosb
    movq %r8, %rax
    ret

    .globl memcmp
    .globl bcmp
memcmp:
bcmp:
    xorl %eax, %eax
    movq %rdx, %rcx
    cmpq %rcx, %rcx
    repe cmpsb
    je 1f
    movzbl -1(%rdi), %eax
    movzbl -1(%rsi), %ecx
    subl %ecx, %eax
1:  ret

# Rust's own libraries are compiled so that they could unwind, and name these. Nothing of ours unwinds: a panic halts.
    .globl _Unwind_Resume
    .globl rust_eh_personality
_Unwind_Resume:
rust_eh_personality:
    ud2

    .globl strlen
strlen:
    xorl %eax, %eax
    orq $-1, %rcx
    repne scasb
    notq %rcx
    leaq -1(%rcx), %rax
    ret
