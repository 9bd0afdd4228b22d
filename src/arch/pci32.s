# The BIOS32 service directory and the PCI BIOS for 32-bit protected mode.
#
# The caller may have paging on and a flat CS or one that begins at F0000h, so nothing here leaves 32-bit mode, knows its own
# address, or touches other memory than the caller's stack and this page. Ports CF8h and CFCh do all the work.
# Sources: Standard BIOS 32-bit Service Directory Proposal 0.4; PCI BIOS Specification 2.1.

    .code32
# EAX = service, BL = 0. Out: AL = status, EBX = base, ECX = length, EDX = entry. Far-called.
    .globl bios32_entry
bios32_entry:
    cmpl $0x49435024, %eax              # "$PCI"
    jne 1f
    testb %bl, %bl
    jnz 2f
    movl $LOW, %ebx
    movl $F_SEGMENT_SIZE, %ecx
    movl $(pcibios32 - F000), %edx
    xorb %al, %al
    lretl
1:  movb $0x80, %al                     # no such service
    lretl
2:  movb $0x81, %al                     # no such function of the directory
    lretl

# AH = B1h, AL = function, the rest as in real mode. Far-called.
pcibios32:
    pushl %esi
    pushl %edx
    pushl %eax
    cmpb $0xb1, %ah
    jne pci_unsupported
    cmpb $0x01, %al
    je pci_present
    cmpb $0x02, %al
    je pci_find_device
    cmpb $0x03, %al
    je pci_find_class
    cmpb $0x08, %al
    jb pci_unsupported
    cmpb $0x0d, %al
    jbe pci_access
pci_unsupported:
    movb $PCI_UNSUPPORTED, %dl
pci_fail:
    popl %eax
    movb %dl, %ah
    popl %edx
    popl %esi
    testl %esp, %esp
    stc
    lretl
pci_done:
    popl %eax
    xorb %ah, %ah
    popl %edx
    popl %esi
    testl %esp, %esp                    # CF and ZF clear
    lretl

pci_present:
    popl %eax
    movw $PCI_BIOS_MECHANISM, %ax
    movw $PCI_BIOS_VERSION, %bx
    call 1f
1:  popl %edx
    movb %cs:(pci32_last_bus - 1b)(%edx), %cl
    popl %edx
    movl $PCI_BIOS_SIGNATURE, %edx
    popl %esi
    testl %esp, %esp
    lretl

# CX = device, DX = vendor, SI = how many to skip. Out: BX = address.
pci_find_device:
    movb $PCI_BAD_VENDOR, %al
    cmpw $0xffff, %dx
    je pci_fail_al
    pushl %ecx
    pushl %edi
    pushl %ebp
    shll $16, %ecx
    movw %dx, %cx
    xorl %edi, %edi                     # register: identification
    jmp pci_find
# ECX = class, SI = how many to skip. Out: BX = address.
pci_find_class:
    pushl %ecx
    pushl %edi
    pushl %ebp
    shll $8, %ecx
    movl $PCI_CLASS, %edi
pci_find:
    call 1f
1:  popl %ebp
    movzbl %cs:(pci32_last_bus - 1b)(%ebp), %ebp
    incl %ebp
    shll $16, %ebp
    orl $PCI_ENABLE, %ebp               # where the search ends
    movl $PCI_ENABLE, %eax
1:  pushl %eax
    movw $PCI_ADDRESS, %dx
    outl %eax, %dx
    movb $(PCI_DATA & 0xff), %dl
    inl %dx, %eax
    cmpw $0xffff, %ax
    je 8f
    movl (%esp), %eax
    orl %edi, %eax
    movb $(PCI_ADDRESS & 0xff), %dl
    outl %eax, %dx
    movb $(PCI_DATA & 0xff), %dl
    inl %dx, %eax
    testl %edi, %edi
    jz 2f
    xorb %al, %al
2:  cmpl %ecx, %eax
    jne 3f
    subw $1, %si
    jb pci_found
3:  popl %eax
    testl $0x700, %eax
    jnz 4f
    pushl %eax                          # function 0: are there others?
    orb $PCI_HEADER, %al
    movb $(PCI_ADDRESS & 0xff), %dl
    outl %eax, %dx
    movb $(PCI_DATA & 0xff), %dl
    inl %dx, %eax
    testl $0x800000, %eax
    popl %eax
    jz 5f
4:  addl $0x100, %eax
    jmp 6f
8:  popl %eax
    testl $0x700, %eax
    jnz 4b
5:  addl $0x800, %eax
6:  cmpl %ebp, %eax
    jb 1b
    popl %ebp
    popl %edi
    popl %ecx
    movb $PCI_NOT_FOUND, %al
pci_fail_al:
    movb %al, %dl
    jmp pci_fail
pci_found:
    popl %eax
    popl %ebp
    popl %edi
    popl %ecx
    shrl $8, %eax
    movw %ax, %bx
    jmp pci_done

# AL = 08h to 0Dh: read or write a byte, word or double word (CL, CX, ECX) of register DI of function BX.
pci_access:
    cmpw $0xff, %di
    ja 8f
    movb %al, %dl
    subb $8, %dl
    cmpb $3, %dl
    jb 1f
    subb $3, %dl
1:  cmpb $1, %dl
    jb 3f
    je 2f
    testw $3, %di
    jnz 8f
2:  testw $1, %di
    jnz 8f
3:  movzwl %bx, %eax
    shll $8, %eax
    orl $PCI_ENABLE, %eax
    movl %edi, %edx
    andl $0xfc, %edx
    orl %edx, %eax
    movw $PCI_ADDRESS, %dx
    outl %eax, %dx
    movl %edi, %edx
    andl $3, %edx
    addl $PCI_DATA, %edx
    movb (%esp), %al
    cmpb $0x09, %al
    jb 4f
    je 5f
    cmpb $0x0b, %al
    jb 6f
    je 7f
    cmpb $0x0c, %al
    je 9f
    movl %ecx, %eax
    outl %eax, %dx
    jmp pci_done
4:  inb %dx, %al
    movb %al, %cl
    jmp pci_done
5:  inw %dx, %ax
    movw %ax, %cx
    jmp pci_done
6:  inl %dx, %eax
    movl %eax, %ecx
    jmp pci_done
7:  movb %cl, %al
    outb %al, %dx
    jmp pci_done
9:  movw %cx, %ax
    outw %ax, %dx
    jmp pci_done
8:  movb $PCI_BAD_REGISTER, %al
    jmp pci_fail_al

    .globl pci32_last_bus
pci32_last_bus:
    .byte 0
    .code16
