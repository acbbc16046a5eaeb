import sys
from tests.simulation.world import World
import time
from tests.simulation.store import store
if len(sys.argv)>3: store().plainly()
n=int(sys.argv[2]); a=int(sys.argv[1])
World(0).run();t=time.process_time()
from collections import Counter
c=Counter(); v=Counter()
for s in range(a,a+n):
    w=World(s); st=w.run(); print(st.hash) if n<5 else 0; c+=st.counts
    if st.violation:
        v[st.violation.invariant]+=1
        print(s, str(st.violation)[:600])
        if n==1: print("\n".join(st.lines()), w.profile)
e=time.process_time()-t
print(n, "seeds", e/n*1000,"ms each"); print(v)
if n>1:
  for k in sorted(c): print("  ",k,c[k])
