// Two rounds of a repetition code that finds a flip: c is 111, s is 10, t is 00 (the flip was undone).
OPENQASM 2.0;
include "qelib1.inc";
qreg q[3];
qreg a[1];
creg s[2];
creg t[2];
creg c[3];

x q;             // logical one
x q[0];          // the flip

cx q[0], a[0];
cx q[1], a[0];
measure a[0] -> s[0];
reset a[0];
cx q[1], a[0];
cx q[2], a[0];
measure a[0] -> s[1];
reset a[0];

if (s == 1) x q[0];
if (s == 3) x q[1];
if (s == 2) x q[2];

cx q[0], a[0];
cx q[1], a[0];
measure a[0] -> t[0];
reset a[0];
cx q[1], a[0];
cx q[2], a[0];
measure a[0] -> t[1];

measure q -> c;
