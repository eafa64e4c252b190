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
