// A branch: what is done to q[1] depends on a measured bit. 0 0 and 1 1, half each.
OPENQASM 2.0;
include "qelib1.inc";
qreg q[2];
creg c[1];
creg d[1];

h q[0];
measure q[0] -> c[0];

// c = 0: q[1] stays 0. c = 1: it goes to |+> and back, and is flipped on the way by S S = Z.
if (c == 1) h q[1];
if (c == 1) s q[1];
if (c == 1) s q[1];
if (c == 1) h q[1];

measure q[1] -> d[0];
