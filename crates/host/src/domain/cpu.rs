//! `<vcpu>` and `<cpu>`.

use super::{Kind, Reader, kept, lost};
use crate::node::Node;
use firstlight_vm::Cpus;

/// QEMU's models without long mode, which the firmware's own code runs in.
const WITHOUT_LONG_MODE: [&str; 11] = [
    "486",
    "pentium",
    "pentium2",
    "pentium3",
    "pentiumpro",
    "athlon",
    "coreduo",
    "n270",
    "qemu32",
    "kvm32",
    "i486",
];

/// Why such a model is refused.
const LONG_MODE: &str = "has no long mode (64-bit), which this firmware's own code needs; the guest itself may be a 32-bit one on any 64-bit model";

impl Reader {
    pub(super) fn vcpu(&mut self, node: Node) {
        self.log.ignore_attributes(node, &["placement", "cpuset"]);
        let Some(text) = self.log.some_text(node) else {
            return;
        };
        let Some(maximum) = self.log.number(node, "the number", &text, 1..=4096) else {
            return;
        };
        let current = self.log.number_of(node, "current", 1..=maximum);
        let cpus = &mut self.domain.guest.cpus;
        cpus.count = current.unwrap_or(maximum) as u32;
        cpus.maximum = current.map(|_| maximum as u32);
        let asks = match current {
            Some(current) => format!("{current} of {maximum}"),
            None => maximum.to_string(),
        };
        let fates = [kept("-smp"), kept("-smp"), kept("vcpus="), kept("vcpus=")];
        self.fate(node, asks, fates);
    }

    pub(super) fn cpu(&mut self, node: Node) {
        let modes = [
            ("custom", None),
            ("host-model", Some("host")),
            ("host-passthrough", Some("host")),
            ("maximum", Some("max")),
        ];
        let mode = self.log.choice(node, "mode", &modes).flatten();
        // How libvirt makes a model of it, and what it does elsewhere.
        let inexact = ["match", "check", "migratable", "deprecated_features"];
        self.log.ignore_attributes(node, &inexact);
        let mut model = mode.map(|mode| match (mode, self.domain.kind) {
            // Only KVM has the host's own.
            ("host", Kind::Qemu | Kind::Xen) => "max".to_owned(),
            _ => mode.to_owned(),
        });
        let mut features = String::new();
        for child in self.log.children(node, &["feature"]) {
            match child.name() {
                "model" => {
                    let named = self.cpu_model(child);
                    model = model.or(named);
                }
                "feature" => features += &self.cpu_feature(child).unwrap_or_default(),
                "topology" => self.topology(child),
                "vendor" | "cache" | "maxphysaddr" => {
                    let why = "is ignored: the processor has its default";
                    self.log.ignore(child, why);
                }
                "numa" => {
                    let why = "is ignored: all memory is near all processors";
                    self.log.ignore(child, why);
                }
                _ => {}
            }
        }
        if model.is_none() && !features.is_empty() {
            model = Some("qemu64".into());
        }
        if let Some(model) = model {
            let model = model + &features;
            self.cpu_fate(node, &model);
            self.domain.guest.cpus.model = Some(model);
        }
    }

    fn cpu_model(&mut self, node: Node) -> Option<String> {
        self.log.ignore_attributes(node, &["fallback", "vendor_id"]);
        let name = self.log.some_text(node)?;
        self.log.word(node, "the model", &name)?;
        let plain = name.split("-v").next().unwrap_or_default();
        if WITHOUT_LONG_MODE.contains(&plain) {
            self.log.error(node, format!("{name} {LONG_MODE}"));
        }
        Some(name)
    }

    fn cpu_fate(&mut self, node: Node, model: &str) {
        let on_xen = || match node.attribute("mode") {
            Some("host-passthrough") => kept("the host's processor, as Xen shows it"),
            _ => lost("the host's processor, as Xen shows it"),
        };
        let by_qemu = kept(format!("-cpu {model}"));
        self.fate(node, model, [by_qemu, kept("-cpu"), on_xen(), on_xen()]);
    }

    /// A feature as QEMU's `-cpu` takes it.
    fn cpu_feature(&mut self, node: Node) -> Option<String> {
        let name = self.log.attribute(node, "name")?;
        let name = self.log.word(node, "the feature", name)?;
        let policies = [
            ("force", true),
            ("require", true),
            ("optional", true),
            ("disable", false),
            ("forbid", false),
        ];
        let on = match node.attribute("policy") {
            Some(_) => self.log.choice(node, "policy", &policies)?,
            None => true,
        };
        if name == "lm" && !on {
            self.log.error(
                node,
                format!("a processor without the feature lm {LONG_MODE}"),
            );
        }
        Some(format!(",{name}={}", if on { "on" } else { "off" }))
    }

    fn topology(&mut self, node: Node) {
        let mut product = 1;
        let mut topology = Vec::new();
        for level in ["sockets", "dies", "cores", "threads"] {
            if let Some(count) = self.log.number_of(node, level, 1..=4096) {
                topology.push((level, count as u32));
                product *= count;
            }
        }
        self.log.number_of(node, "clusters", 1..=1);
        // <vcpu> stands before or after <cpu>.
        let vcpu = node.top().child("vcpu");
        let vcpus = vcpu.and_then(|vcpu| vcpu.text().parse().ok());
        let vcpus = vcpus.unwrap_or(1i64);
        if product != vcpus {
            self.log.error(
                node,
                format!("is of {product} processors, and <vcpu> says {vcpus}"),
            );
        }
        let asks: Vec<String> = topology
            .iter()
            .map(|(level, count)| format!("{count} {level}"))
            .collect();
        let fates = [
            kept("-smp"),
            kept("-smp"),
            lost("a socket for each processor"),
            lost("a socket for each processor"),
        ];
        self.fate(node, asks.join(", "), fates);
        let cpus: &mut Cpus = &mut self.domain.guest.cpus;
        cpus.topology = topology;
    }
}
