// Holds |+> and |1> for three blocks of d rounds: always 01.
OPENQASM 2.0;
include "qelib1.inc";
qreg q[2];
creg c[2];
h q[0];
x q[1];
id q;
id q;
id q;
h q[0];
measure q -> c;
