//! Security contexts of the containers of a run's pod. They allow no more than the namespace's Pod Security Standard, and often less.

use k8s_openapi::api::core::v1::{Capabilities, Container, PodSecurityContext, SeccompProfile, SecurityContext};
use sextant_config::PodSecurity;

/// The security context of a pod, which applies to all its containers.
pub fn pod(level: PodSecurity) -> PodSecurityContext {
    let anybody = PodSecurityContext {
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
        ..PodSecurityContext::default()
    };
    match level {
        PodSecurity::Baseline => anybody,
        PodSecurity::Restricted { user } => PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(user.into()),
            run_as_group: Some(user.into()),
            ..anybody
        },
    }
}

/// No privileges of root, and no means to gain them.
pub fn unprivileged() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".into()]) }),
        ..SecurityContext::default()
    }
}

/// The security context of Sextant's own containers.
pub fn own(level: PodSecurity) -> SecurityContext {
    let container = SecurityContext { read_only_root_filesystem: Some(true), ..unprivileged() };
    match level {
        // Root, but without root's capabilities, since files in the pod may belong to any user that an image chose.
        PodSecurity::Baseline => SecurityContext { run_as_user: Some(0), run_as_group: Some(0), ..container },
        PodSecurity::Restricted { .. } => container,
    }
}

/// Lets one of Sextant's containers access files of any owner. This is the only capability it needs, for the output of an
/// algorithm that runs as another user, and for a `task_dir` with any owner. In a restricted pod all files belong to
/// one user, so it isn't needed there.
pub fn reach_all_files(container: &mut Container, level: PodSecurity) {
    add(container, level, "DAC_OVERRIDE");
}

/// Lets one of Sextant's containers remove files of any owner, even from sticky folders.
pub fn remove_all_files(container: &mut Container, level: PodSecurity) {
    add(container, level, "FOWNER");
}

fn add(container: &mut Container, level: PodSecurity, capability: &str) {
    if level == PodSecurity::Baseline {
        let security = container.security_context.get_or_insert_default();
        let added = security.capabilities.get_or_insert_default().add.get_or_insert_default();
        added.push(capability.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restricted_pods_have_no_root_and_no_added_capability() {
        let level = PodSecurity::Restricted { user: 1000 };
        let pod = pod(level);
        assert_eq!((pod.run_as_non_root, pod.run_as_user, pod.run_as_group), (Some(true), Some(1000), Some(1000)));
        let mut container = Container { security_context: Some(own(level)), ..Container::default() };
        reach_all_files(&mut container, level);
        remove_all_files(&mut container, level);
        let own = container.security_context.unwrap();
        assert_eq!((own.run_as_user, own.allow_privilege_escalation), (None, Some(false)));
        let capabilities = own.capabilities.unwrap();
        assert_eq!((capabilities.add, capabilities.drop), (None, Some(vec!["ALL".to_owned()])));
    }

    #[test]
    fn baseline_leaves_the_user_to_the_image() {
        assert_eq!(pod(PodSecurity::Baseline).run_as_user, None);
        let mut container = Container { security_context: Some(own(PodSecurity::Baseline)), ..Container::default() };
        reach_all_files(&mut container, PodSecurity::Baseline);
        remove_all_files(&mut container, PodSecurity::Baseline);
        let own = container.security_context.unwrap();
        assert_eq!(own.run_as_user, Some(0));
        assert_eq!(own.capabilities.unwrap().add, Some(vec!["DAC_OVERRIDE".to_owned(), "FOWNER".to_owned()]));
    }
}
