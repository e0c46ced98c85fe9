// H T H |0> is 0 with probability cos^2(pi/8).  Tried until it is, twice at most; "failed" says whether it never was, and q is 1
// where it was.
OPENQASM 2.0;
include "qelib1.inc";
qreg f[1];
qreg q[1];
creg failed[1];
creg c[1];
h f[0];
t f[0];
h f[0];
measure f[0] -> failed[0];
if (failed == 1) reset f[0];
if (failed == 1) h f[0];
if (failed == 1) t f[0];
if (failed == 1) h f[0];
if (failed == 1) measure f[0] -> failed[0];
if (failed == 0) x q[0];
measure q[0] -> c[0];
