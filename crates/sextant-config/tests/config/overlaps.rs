//! Databases that overlap with each other, or with what runs share.

use crate::safety::Verdict::{self, Refused, Silent, Warned};
use crate::safety::judge;

const PLACE: Verdict = Refused("`kubernetes.tmp`: found a place in the database `a`");
const ROOM: Verdict = Warned("has the database `a` (`databases[0]`) in it");
const BOTH: Verdict = Warned("whoever asks for `a` gets both");

#[test]
fn what_runs_share_is_in_no_database() {
    for (database, tmp, expected) in [
        ("persistentVolumeClaim: {claimName: data}", "persistentVolumeClaim: {claimName: data}", PLACE),
        ("persistentVolumeClaim: {claimName: data, readOnly: true}", "persistentVolumeClaim: {claimName: data}", PLACE),
        ("persistentVolumeClaim: {claimName: data}, path: exports", "persistentVolumeClaim: {claimName: data}", ROOM),
        ("persistentVolumeClaim: {claimName: data}", "persistentVolumeClaim: {claimName: tmp}", Silent),
        ("nfs: {server: s, path: /export}", "nfs: {server: s, path: /export/tmp}", PLACE),
        ("nfs: {server: s, path: /export}", "nfs: {server: S, path: /export/../export//tmp}", PLACE),
        ("nfs: {server: s, path: /}, path: export", "nfs: {server: s, path: /export/tmp}", PLACE),
        ("nfs: {server: s, path: /export}", "nfs: {server: s, path: /exports}", Silent),
        ("nfs: {server: s, path: /export}", "nfs: {server: t, path: /export}", Silent),
        ("hostPath: {path: /srv}", "hostPath: {path: /srv/shared}", PLACE),
        ("hostPath: {path: /srv/}", "hostPath: {path: /srv}", PLACE),
        ("hostPath: {path: /srv}, path: shared", "hostPath: {path: /srv/shared}", PLACE),
        ("hostPath: {path: /srv/data}", "hostPath: {path: /srv/shared}", Silent),
        ("hostPath: {path: /srv/shared/data}", "hostPath: {path: /srv/shared}", ROOM),
        (
            "csi: {driver: nfs.csi.k8s.io, volumeAttributes: {share: /a}}",
            "csi: {driver: nfs.csi.k8s.io, volumeAttributes: {share: /a}}",
            PLACE,
        ),
        ("emptyDir: {}", "emptyDir: {}", Silent),
        // Whatever they are mounted with.
        (
            "csi: {driver: x.csi.aws.com, readOnly: true, fsType: ext4, volumeAttributes: {id: a, mountOptions: ro}}",
            "csi: {driver: x.csi.aws.com, nodePublishSecretRef: {name: s}, volumeAttributes: {id: a}}",
            PLACE,
        ),
        (
            "csi: {driver: x.csi.aws.com, volumeAttributes: {id: a}}",
            "csi: {driver: x.csi.aws.com, volumeAttributes: {id: b}}",
            Silent,
        ),
        (
            "csi: {driver: nfs.csi.k8s.io, readOnly: true, volumeAttributes: {server: s, share: /a}}",
            "csi: {driver: nfs.csi.k8s.io, volumeAttributes: {server: s., share: /a/b}}",
            PLACE,
        ),
        (
            "csi: {driver: nfs.csi.k8s.io, volumeAttributes: {server: s, share: /a}}",
            "nfs: {server: S, path: /a/b}",
            PLACE,
        ),
        (
            "csi: {driver: nfs.csi.k8s.io, volumeAttributes: {server: s, share: /a}}",
            "csi: {driver: nfs.csi.k8s.io, volumeAttributes: {server: s, share: /b}}",
            Silent,
        ),
        (
            "csi: {driver: nfs.csi.k8s.io, volumeAttributes: {server: s, share: /a, subDir: b}}",
            "csi: {driver: nfs.csi.k8s.io, volumeAttributes: {server: s, share: /a, subDir: c}}",
            Silent,
        ),
        (
            "csi: {driver: smb.csi.k8s.io, readOnly: true, volumeAttributes: {source: //s/a}}",
            "csi: {driver: smb.csi.k8s.io, volumeAttributes: {source: //S/a/tmp}}",
            PLACE,
        ),
        ("azureFile: {secretName: s, shareName: a, readOnly: true}", "azureFile: {secretName: s, shareName: a}", PLACE),
        ("azureFile: {secretName: s, shareName: a}", "azureFile: {secretName: s, shareName: b}", Silent),
        ("cephfs: {monitors: [a, b], path: /x, readOnly: true}", "cephfs: {monitors: [b, a], path: /x/y}", PLACE),
        ("cephfs: {monitors: [a], path: /x, user: u}", "cephfs: {monitors: [a], path: /x}", PLACE),
        ("cephfs: {monitors: [a], path: /x}", "cephfs: {monitors: [a], path: /y}", Silent),
        (
            "iscsi: {targetPortal: a, iqn: b, lun: 0, readOnly: true}",
            "iscsi: {targetPortal: a, iqn: b, lun: 0, fsType: xfs}",
            PLACE,
        ),
        ("iscsi: {targetPortal: a, iqn: b, lun: 0}", "iscsi: {targetPortal: a, iqn: b, lun: 1}", Silent),
        ("glusterfs: {endpoints: e, path: v, readOnly: true}", "glusterfs: {endpoints: e, path: v/tmp}", PLACE),
        ("rbd: {monitors: [a], image: i, readOnly: true}", "rbd: {monitors: [a], image: i}", PLACE),
    ] {
        let more = format!(
            "databases: [{{label: a, type: other}}]\nkubernetes: {{tmp: {{{tmp}}}, databases: {{a: {{{database}}}}}}}"
        );
        judge(&more, "kubernetes.tmp", expected);
    }
    for (uri, expected) in
        [("/srv/shared", PLACE), ("/srv", PLACE), ("/srv/shared/a.csv", ROOM), ("/srv/a.csv", Silent)]
    {
        let more = format!(
            "databases: [{{label: a, type: other, uri: {uri}}}]\nkubernetes: {{tmp: {{hostPath: {{path: /srv/shared}}}}}}"
        );
        judge(&more, "kubernetes.tmp", expected);
    }
}

#[test]
fn a_database_in_another_one_is_told() {
    for (databases, volumes, expected) in [
        ("{label: a, type: folder, uri: /data/all}, {label: b, type: csv, uri: /data/all/secret/b.csv}", "", BOTH),
        ("{label: b, type: csv, uri: /data/all/secret/b.csv}, {label: a, type: folder, uri: /data/all/}", "", BOTH),
        ("{label: a, type: folder, uri: /data/a}, {label: b, type: csv, uri: /data/b.csv}", "", Silent),
        ("{label: a, type: csv, uri: /data/b.csv}, {label: b, type: csv, uri: /data/b.csv}", "", Silent),
        (
            "{label: a, type: other}, {label: b, type: csv}",
            "a: {persistentVolumeClaim: {claimName: data}}, b: {persistentVolumeClaim: {claimName: data}, path: secret/b.csv}",
            BOTH,
        ),
        (
            "{label: a, type: other}, {label: b, type: csv}",
            "a: {persistentVolumeClaim: {claimName: data}, path: open}, b: {persistentVolumeClaim: {claimName: data}, path: secret/b.csv}",
            Silent,
        ),
        (
            "{label: a, type: other, uri: /srv}, {label: b, type: csv}",
            "b: {hostPath: {path: /srv/b}, path: b.csv}",
            BOTH,
        ),
    ] {
        judge(&format!("databases: [{databases}]\nkubernetes: {{databases: {{{volumes}}}}}"), "gets both", expected);
    }
}
