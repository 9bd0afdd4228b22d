# A boot program for disks and CDs that says what it was entered with.
.include "handover/macros.inc"
_start:
    call registers
    finish
.include "handover/registers.inc"
    .org 510
    .word 0xaa55
