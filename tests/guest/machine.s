# Operations on the machine rather than on a BIOS service: other CPUs, PCI functions, reboots. Included by executor.s.

.equ AP_TRAMPOLINE, 0x8000
.equ AP_SEGMENT,    0x7400          # a slot for each APIC ID, then the count
.equ AP_SLOTS,      0x74000
.equ AP_SLOT_SIZE,  16
.equ AP_COUNT,      0x1000          # in AP_SEGMENT
.equ LOCAL_APIC,    0xfee00000
.equ ICR_INIT,      0x000c4500      # INIT to all but self
.equ ICR_NMI,       0x000c4400      # to all but self
.equ ICR_STARTUP,   0x000c4600 | (AP_TRAMPOLINE >> 12)

# Describes the CPU this runs on in its slot: 2, APIC ID, -, -, u32 hash of its MTRRs, u32 APIC base, u32 CR0.
# DS = AP_SEGMENT; keeps only segment registers and the stack.
.macro DESCRIBE_CPU
    mov eax, 1
    cpuid
    shr ebx, 24
    mov di, bx
    shl di, 4
    mov [di + 1], bl
    xor ebp, ebp
    mov ecx, 0x2ff
    HASH_MSR
    mov ecx, 0x250
    HASH_MSR
    mov ecx, 0x258
    HASH_MSR
    mov ecx, 0x259
    HASH_MSR
    mov ecx, 0x268
1:  HASH_MSR
    inc ecx
    cmp cl, 0x70
    jb 1b
    mov ecx, 0x200
1:  HASH_MSR
    inc ecx
    cmp cl, 0x10
    jb 1b
    mov [di + 4], ebp
    mov ecx, 0x1b
    rdmsr
    mov [di + 8], eax
    mov eax, cr0
    mov [di + 12], eax
    mov byte ptr [di], 2
.endm
.macro HASH_MSR
    rdmsr
    rol ebp, 5
    xor ebp, eax
    rol ebp, 5
    xor ebp, edx
.endm

# call other CPUs: u16 expected number, u8 how (0 INIT and two start-up IPIs, 1 NMI, which finds them as the firmware
# parked them if that was in real mode). Sends that to all and waits for that many.
# Reports one line for each CPU, the caller's own first, then their number.
op_start_aps:
    mov ax, AP_SEGMENT
    mov es, ax
    xor di, di
    xor ax, ax
    mov cx, 0x1800
    rep stosw
    push cs
    pop es
    mov ax, AP_SEGMENT
    mov ds, ax
    DESCRIBE_CPU
    mov byte ptr [di], 1
    push cs
    pop ds
    movzx ebx, di
    add ebx, AP_SLOTS
    call report_slot
    call big_gs
    mov si, offset ap_code
    mov edi, AP_TRAMPOLINE
    mov cx, offset ap_code_end - ap_code
1:  lodsb
    mov gs:[edi], al
    inc edi
    loop 1b
    cmp byte ptr [RECORD + 6], 0
    je 1f
    mov dword ptr gs:[2 * 4], (AP_TRAMPOLINE << 12)     # the NMI's vector, as segment 0800h
    mov eax, ICR_NMI
    jmp 2f
1:  mov eax, ICR_INIT
    call send_ipi
    mov eax, ICR_STARTUP
    call send_ipi
    mov eax, ICR_STARTUP
2:  call send_ipi
    mov bp, 360                     # 20 s: many CPUs share few real ones
2:  mov cx, 1
    call wait_ticks
    mov ax, AP_SEGMENT
    mov fs, ax
    mov ax, fs:[AP_COUNT]
    cmp ax, [RECORD + 4]
    jae 3f
    dec bp
    jnz 2b
3:  mov cx, 4                       # one too many would show by now
    call wait_ticks
    mov ebx, AP_SLOTS
4:  call big_gs
    cmp byte ptr gs:[ebx], 2
    jne 5f
    call report_slot
5:  add ebx, AP_SLOT_SIZE
    cmp ebx, AP_SLOTS + 256 * AP_SLOT_SIZE
    jb 4b
    mov al, 'N'
    call line_start
    mov ax, AP_SEGMENT
    mov fs, ax
    mov al, fs:[AP_COUNT]
    call put_byte
    jmp line_end

# EAX to the interrupt command register, then time for the CPUs to act on it.
send_ipi:
    call big_gs
    mov edi, LOCAL_APIC
    mov dword ptr gs:[edi + 0x310], 0
    mov gs:[edi + 0x300], eax
    mov cx, 2
# CX timer ticks, interrupts on.
wait_ticks:
    push fs
    push 0
    pop fs
    sti
1:  mov eax, fs:[0x46c]
2:  pause
    cmp eax, fs:[0x46c]
    je 2b
    loop 1b
    pop fs
    ret

# One line for the slot at EBX.
report_slot:
    call big_gs
    mov al, 'P'
    call line_start
    mov cx, AP_SLOT_SIZE
    mov esi, ebx
1:  mov al, gs:[esi]
    call put_byte
    inc esi
    loop 1b
    jmp line_end

# Copied to AP_TRAMPOLINE; every other CPU starts here.
ap_code:
    cli
    cld
    mov ax, AP_SEGMENT
    mov ds, ax
    DESCRIBE_CPU
    lock inc word ptr [AP_COUNT]
1:  cli
    hlt
    jmp 1b
ap_code_end:

# pci: u8 BAR sizing (0 no, 1 yes). Reports for every function its bus/device/function, the first 64 bytes of its
# configuration space, and for each BAR what it reads after all ones were written (0 when not sized).
op_pci:
    mov ebx, 0x80000000
1:  mov al, 0
    call config_read
    cmp ax, 0xffff
    je 5f
    mov al, 'Q'
    call line_start
    mov eax, ebx
    shr eax, 8
    call put_dword
    xor cx, cx
2:  mov al, cl
    call config_read
    call put_dword
    add cx, 4
    cmp cx, 64
    jb 2b
    call size_bars
    call line_end
    test bh, 7                      # function 0 of one function: leave the others
    jnz 5f
    mov al, 0x0c
    call config_read
    test eax, 0x800000
    jnz 5f
    add ebx, 0x700
5:  add ebx, 0x100
    cmp ebx, 0x81000000
    jb 1b
    ret

# EBX = CF8h address of the function. Keeps EBX.
size_bars:
    mov al, 4
    call config_read
    push eax
    and al, 0xfc
    mov edx, eax
    mov al, 4
    call config_write
    mov cl, 0x10
1:  xor edx, edx
    mov al, 0x0c                    # a bridge has two BARs; 0 is reported for the rest
    call config_read
    shr eax, 16
    and al, 0x7f
    jz 2f
    cmp cl, 0x18
    jae 3f
2:  cmp byte ptr [RECORD + 4], 0
    je 3f
    mov al, cl
    call config_read
    push eax
    mov edx, 0xffffffff
    mov al, cl
    call config_write
    mov al, cl
    call config_read
    mov esi, eax
    pop edx
    mov al, cl
    call config_write
    mov edx, esi
3:  mov eax, edx
    call put_dword
    add cl, 4
    cmp cl, 0x28
    jb 1b
    pop edx
    mov al, 4
    jmp config_write

# AL = register; EAX = its value. Keeps the rest.
config_read:
    push dx
    call config_address
    in eax, dx
    pop dx
    ret
# AL = register, EDX = value. Keeps EBX, CX.
config_write:
    push edx
    call config_address
    pop eax
    out dx, eax
    ret
config_address:
    movzx eax, al
    or eax, ebx
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    ret

# reboot: u8 CMOS register that counts, u8 times. Reports the count, then resets the machine by the keyboard
# controller, port CF9h and a triple fault in turn until it was reset that many times.
op_reboot:
    mov al, [RECORD + 4]
    or al, 0x80
    out 0x70, al
    in al, 0x71
    mov bl, al
    mov al, 'R'
    call line_start
    mov al, bl
    call put_byte
    call line_end
    mov al, [RECORD + 4]
    or al, 0x80
    out 0x70, al
    xor ax, ax
    cmp bl, [RECORD + 5]
    jae 1f
    mov al, bl
    inc al
1:  out 0x71, al
    mov al, 0x0d
    out 0x70, al
    in al, 0x71
    cmp bl, [RECORD + 5]
    jb 2f
    ret
2:  movzx ax, bl
    mov bl, 3
    div bl
    cli
    cmp ah, 1
    jb by_keyboard
    je by_cf9
    data32 lidt [no_idt]
    int3
by_keyboard:
    in al, 0x64
    test al, 2
    jnz by_keyboard
    mov al, 0xfe
    out 0x64, al
    hlt
by_cf9:
    mov dx, 0xcf9
    mov al, 2
    out dx, al
    mov al, 6
    out dx, al
    hlt

    .balign 4
no_idt:
    .word 0
    .long 0
