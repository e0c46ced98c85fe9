// Two rounds of a repetition code that finds a flip: c is 111, found is 10, after is 00 (the flip was undone).
OPENQASM 2.0;
include "qelib1.inc";
qreg q[3];
qreg a[1];
creg found[2];
creg after[2];
creg c[3];

x q;             // logical one
x q[0];          // the flip

cx q[0], a[0];
cx q[1], a[0];
measure a[0] -> found[0];
reset a[0];
cx q[1], a[0];
cx q[2], a[0];
measure a[0] -> found[1];
reset a[0];

if (found == 1) x q[0];
if (found == 3) x q[1];
if (found == 2) x q[2];

cx q[0], a[0];
cx q[1], a[0];
measure a[0] -> after[0];
reset a[0];
cx q[1], a[0];
cx q[2], a[0];
measure a[0] -> after[1];

measure q -> c;
