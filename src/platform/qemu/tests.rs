use super::fw_cfg::fake::FakeFwCfg;
use super::*;

#[test]
fn a_machine_and_its_settings_come_out() {
    let fake = FakeFwCfg::new(&[
        ("opt/firstlight/serial-console", b"on\n"),
        ("opt/firstlight/nonsense", b"\xff"),
        ("etc/e820", &[0; 3]),
    ])
    .item(key::NB_CPUS, &[4, 0]);
    let (machine, settings) = discover(&fake, Chipset::I440fx, 0..0);
    assert_eq!(machine.cpus.present, 4);
    assert_eq!(settings.console_port(), Some(0));
    assert_eq!(machine.low_ram_end, 1 << 20);
    assert!(machine.fw_cfg.is_some());
}

#[test]
fn goes_on_without_fw_cfg() {
    let mut fake = FakeFwCfg::new(&[]);
    fake.dma = false;
    fake.absent = true;
    let (machine, settings) = discover(&fake, Chipset::None, 0..0);
    assert_eq!(machine.cpus.present, 1);
    assert_eq!(settings, Settings::default());
}
