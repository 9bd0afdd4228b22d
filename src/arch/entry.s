# The way from the first instruction to 64-bit Rust.
#
# Two starts, one path: the reset vector (16-bit, in ROM) and the ELF entry that Xen's domain builder enters (32-bit, EBX =
# physical address of hvm_start_info). Both find the end of low RAM, and `entry32` copies the image to its top, relocates it
# and goes on there. Nothing here knows where the image was loaded.
#
# From ROM, which stays where it is, most of the code and of the read-only data is copied page by page when it is first touched:
# each page of ROM is an exit to a hypervisor, and a boot does without half of them.

    .section .text.entry, "ax", @progbits

# Names that no file here sets are those of src/assembly.rs.

# While the firmware finds out what to boot, its heap takes this part of RAM beside the least, and not more than there is use for.
    .set HEAP_SHARE_SHIFT, 5
    .set HEAP_MOST_EXTRA, 2 << 20
# Where there is not more than the first MiB, all of the image goes below the EBDA, and the heap is smaller by this.
    .set HEAP_SPARED, HEAP - (64 << 10)
    .set PAGE_SHIFT, 12
    .set LARGE_PAGE_SHIFT, 21
    .set LARGE_PAGE, 1 << LARGE_PAGE_SHIFT
    .set GIB_SHIFT, 30
    .set GIB, 1 << GIB_SHIFT
# Entries of a page table.
    .set ENTRIES, 512
# A task state segment that can be loaded, and an interrupt gate, to which its stack is added.
    .set TASK_AVAILABLE, 0x89
    .set INTERRUPT_GATE, 0x8e00
    .set GATE_SIZE, 16
    .set EFLAGS_ID, 1 << 21
# CPUID: the leaf that tells of long mode, and its bits in EDX.
    .set CPUID_EXTENDED, 0x80000001
    .set CPUID_LONG_MODE, 1 << 29
    .set CPUID_PAGES_1_GIB, 1 << 26

    .code32
    .globl xen_entry
xen_entry:
    cli
    cld
    movl $EARLY_STACK, %esp
    movl HVM_INFO_LOW_MEM_PGEND, %edx
    # Xen may still have to grow the hole below 4 GiB down to 2 GiB, and moves RAM then: stay below.
    cmpl $(2 * GIB / PAGE), %edx
    jbe 1f
    movl $(2 * GIB / PAGE), %edx
1:  shll $PAGE_SHIFT, %edx

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
    movl $CPUID_EXTENDED, %eax
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
2:  andl $-PAGE, %ecx
    addl %ecx, %eax
    movl %edx, %edi
    subl %eax, %edi
    andl $-PAGE, %edi
    cmpl $ONE_MIB, %edi
    jae 2f
    subl %ecx, %eax
    movl $-HEAP_SPARED, %ecx
    addl %ecx, %eax
    movl $(EBDA & -PAGE), %edi
    subl %eax, %edi
    cmpl $FIRST_FREE, %edi
    jge 2f
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
    movl $(DIRECTORIES / 4), %ecx
    xorl %eax, %eax
    rep stosl
    movl (%esp), %edi
    leal (POINTERS + (PRESENT | WRITABLE))(%edi), %eax
    movl %eax, (%edi)
    addl $POINTERS, %edi
    testl $CPUID_PAGES_1_GIB, 12(%esp)
    jz 3f
    movl $(PRESENT | WRITABLE | LARGE), %eax
    xorl %edx, %edx
    movl $ENTRIES, %ecx
2:  movl %eax, (%edi)
    movl %edx, 4(%edi)
    addl $8, %edi
    addl $GIB, %eax
    adcl $0, %edx
    decl %ecx
    jnz 2b
    movl $CR4_LONG, %eax
    movl %eax, %cr4
    jmp 5f

3:  leal (DIRECTORIES - POINTERS + (PRESENT | WRITABLE))(%edi), %eax
    movl %eax, (%edi)
    addl $PAGE, %eax
    movl %eax, 8(%edi)
    addl $PAGE, %eax
    movl %eax, 16(%edi)
    addl $PAGE, %eax
    movl %eax, 24(%edi)
    addl $(DIRECTORIES - POINTERS), %edi
    movl $CR4_LONG, %eax
    movl %eax, %cr4
    movups (first_pages - 1b)(%ebp), %xmm0
    movups (next_pages - 1b)(%ebp), %xmm1
    movl $(4 * ENTRIES / 8), %ecx
4:  .irp offset, 0, 16, 32, 48
    movups %xmm0, \offset(%edi)
    paddd %xmm1, %xmm0
    .endr
    addl $64, %edi
    decl %ecx
    jnz 4b

5:  popl %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    movl $(1 << EFER_LME), %eax
    xorl %edx, %edx
    wrmsr
    popl %edi
    popl %ebx

    leal (bridge_gdt - 1b)(%ebp), %eax
    pushl %eax
    pushw $GDT_LIMIT
    lgdt (%esp)
    addl $6, %esp
    movl $CR0_LONG, %eax
    movl %eax, %cr0
    leal (copy64 - 1b)(%ebp), %eax
    pushl $CODE_64
    pushl %eax
    lretl

# Says on the debug ports, ours and SeaBIOS's, and on COM1 why nothing can run here, and stops. ESI: the text, which a zero ends.
# Nothing that could be Rust runs without 64-bit mode, so this waits for the serial port by itself, and not for ever.
    .set UART_LOOKS, 0x10000
    .set UART_115200_BAUD, 1
cannot_run:
    movw $(COM1 + UART_LINE_CONTROL), %dx
    movb $UART_DIVISOR_LATCH, %al
    outb %al, %dx
    movw $COM1, %dx
    movb $UART_115200_BAUD, %al
    outb %al, %dx
    incl %edx
    movb $0, %al
    outb %al, %dx
    movw $(COM1 + UART_LINE_CONTROL), %dx
    movb $UART_EIGHT_BITS, %al
    outb %al, %dx
1:  lodsb
    testb %al, %al
    jz 3f
    outb %al, $DEBUG_PORT
    movw $SEABIOS_DEBUG_PORT, %dx
    outb %al, %dx
    movb %al, %bl
    movw $(COM1 + UART_LINE_STATUS), %dx
    movl $UART_LOOKS, %ecx
2:  inb %dx, %al
    testb $UART_TRANSMIT_EMPTY, %al
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
    .asciz "firstlight: cannot run: too little memory (QEMU: -m 1 at least)\r\n"

# Page directory entries of the first 4 MiB, and the distance to the next ones.
    .balign 16
first_pages:
    .long PRESENT | WRITABLE | LARGE, 0, LARGE_PAGE + (PRESENT | WRITABLE | LARGE), 0
next_pages:
    .long 2 * LARGE_PAGE, 0, 2 * LARGE_PAGE, 0

# Bytes of the heap behind its end, less than none where memory is little. This and what follows is neither copied nor cleared.
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
    shrq $GIB_SHIFT, %rax
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

# Maps the new image, whose base is RDX, by pages of 4 KiB, but for those that are copied later. Changes RAX, RCX, RDI and R8 to R10.
leave_out:
    leaq page_tables(%rip), %r8
    addq %rbp, %r8
    movq %rdx, %rax
    shrq $GIB_SHIFT, %rax
    leaq POINTERS(%r8, %rax, 8), %r9        # R9 = entry of the gigabyte
    movq (%r9), %rax
    testb $LARGE, %al
    jz 2f
    leaq DIRECTORIES(%r8), %rdi
    leaq (PRESENT | WRITABLE)(%rdi), %r10
    movl $ENTRIES, %ecx
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
    movl $(2 * ENTRIES), %ecx
3:  stosq
    addq $PAGE, %rax
    decl %ecx
    jnz 3b
    leaq lazy_start(%rip), %rax
    leaq lazy_end(%rip), %rcx
    subq %rax, %rcx
    shrq $PAGE_SHIFT, %rcx
    addq %rbp, %rax
    movq %rdx, %rdi
    andq $-LARGE_PAGE, %rdi
    subq %rdi, %rax
    shrq $PAGE_SHIFT, %rax
    leaq IMAGE_TABLES(%r8, %rax, 8), %rax
4:  andb $~PRESENT, (%rax)
    addq $8, %rax
    decl %ecx
    jnz 4b

    movq %rdx, %rax
    shrq $LARGE_PAGE_SHIFT, %rax
    andl $(ENTRIES - 1), %eax
    leaq (%r9, %rax, 8), %rax           # RAX = entry of the image's first 2 MiB
    leaq (IMAGE_TABLES + (PRESENT | WRITABLE))(%r8), %rcx
    movq %rcx, (%rax)
    leaq resident_end - 1(%rip), %rdi
    addq %rbp, %rdi
    xorq %rdx, %rdi
    shrq $LARGE_PAGE_SHIFT, %rdi
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
    movq %rax, first_task + TASK_PAGE_STACK(%rip)
    leaq first_task(%rip), %rax
    movw $(TASK_SIZE - 1), bridge_gdt + TASK_STATE(%rip)
    movw %ax, bridge_gdt + TASK_STATE + 2(%rip)
    shrl $16, %eax
    movb %al, bridge_gdt + TASK_STATE + 4(%rip)
    movb $TASK_AVAILABLE, bridge_gdt + TASK_STATE + 5(%rip)
    movb %ah, bridge_gdt + TASK_STATE + 7(%rip)
    movl $TASK_STATE, %eax
    ltr %ax
    leaq exception_stubs + PAGE_FAULT * STUB_SIZE(%rip), %rax
    leaq first_gates + PAGE_FAULT * GATE_SIZE(%rip), %rcx
    movw %ax, (%rcx)
    shrl $16, %eax
    movw $CODE_64, 2(%rcx)
    movw $(INTERRUPT_GATE + PAGE_STACK), 4(%rcx)
    movw %ax, 6(%rcx)
    leaq first_gates(%rip), %rax
    pushq %rax
    pushw $((PAGE_FAULT + 1) * GATE_SIZE - 1)
    lidt (%rsp)
    addq $10, %rsp
    # Real mode keeps the limits that were last loaded in protected mode. Option ROMs and boot programs have always found 4 GiB
    # here (SeaBIOS leaves them so), and some do not work without.
    movl $DATA_16, %eax
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
    .balign STUB_SIZE
    .if \has_error == 0
    pushq $0
    .endif
    pushq $\vector
    jmp exception_common
    .endm

    .balign STUB_SIZE
    .globl exception_stubs
exception_stubs:
    exception 0, 0
# Breakpoints that a guest has set on what a service touches, and non-maskable interrupts: the guest hears of them when the
# service is done. They have a stack of their own, since Rust writes below RSP. The caller's SS is a real-mode segment, which IRET
# would take for a selector: it gets one with the widest limit, to which the way back to real mode adds its base.
    .set RFLAGS_RESUME, 1 << 16
    .balign STUB_SIZE
    jmp debug_in_service
    .balign STUB_SIZE
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
    .balign STUB_SIZE
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
    movq $DATA_16, 32(%rsp)
    orq $RFLAGS_RESUME, 16(%rsp)
    orb $PENDING_DEBUG, DATA + v_pending
    iretq
nmi_in_service:
    movq $DATA_16, 32(%rsp)
    orb $PENDING_NMI, DATA + v_pending
    iretq

# A page of the image that is touched for the first time is copied to its place. The interrupted code's SS is as above.
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
    shrq $PAGE_SHIFT, %rax
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
    movq $DATA_16, 32(%rsp)
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
    .balign 16
first_task:
    .fill TASK_SIZE, 1, 0
    .balign 16
first_gates:
    .fill (PAGE_FAULT + 1) * GATE_SIZE, 1, 0

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
