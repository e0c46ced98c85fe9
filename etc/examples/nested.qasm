// Branches inside branches, which go beyond OpenQASM 2: where both coins show 1, a third one is thrown, and copied.
// a b c d: 0 0 0 0, 0 1 0 0 and 1 0 0 0 with a quarter each, 1 1 0 0 and 1 1 1 1 with an eighth.
OPENQASM 2.0;
include "qelib1.inc";
qreg q[3];
creg a[1];
creg b[1];
creg c[1];
creg d[1];

h q[0];
measure q[0] -> a[0];
reset q[0];
h q[0];
measure q[0] -> b[0];

if (a == 1) if (b == 1) h q[1];
if (a == 1) if (b == 1) measure q[1] -> c[0];
if (c == 1) cx q[1],q[2];

measure q[2] -> d[0];
