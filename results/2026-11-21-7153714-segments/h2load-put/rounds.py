import subprocess,re,json,time,statistics as S,shutil
D='/tmp/load/val/data'; shutil.rmtree(D,ignore_errors=True)
c='http://127.0.0.1:15579'; p='http://127.0.0.1:15580'
s=subprocess.Popen(['taskset','-c','0','/tmp/tools/bin/etcd','--quota-backend-bytes=8589934592','--log-level=error','--name','m','--data-dir',D,'--listen-client-urls',c,'--advertise-client-urls',c,'--listen-peer-urls',p,'--initial-advertise-peer-urls',p,'--initial-cluster','m='+p],stderr=subprocess.DEVNULL)
time.sleep(2)
def ours():
    r=subprocess.run(['taskset','-c','1','/tmp/bench-d','run','--endpoint','127.0.0.1:15579','--pid',str(s.pid),'--json','--keys','1','--key-size','8','--value-size','256','--conns','10','--streams','10','--workload','put','--warmup','0.5','--seconds','2'],capture_output=True,text=True); j=json.loads(r.stdout); return j.get('per_second') or j['figures']['per_second']
def h2():
    r=subprocess.run(['taskset','-c','1','h2load','-t','1','-c','10','-m','10','-D','2','--warm-up-time','1','-d','/tmp/val2/put.body','-H','content-type: application/grpc','-H','te: trailers',c+'/etcdserverpb.KV/Put'],capture_output=True,text=True); return float(re.search(r'([\d.]+) req/s',r.stdout).group(1))
try:
    rr=[]
    for i in range(6):
        a=[ours()]; b=[h2(),h2()]; a.append(ours())
        rr.append(S.mean(a)/S.mean(b)); print(json.dumps({'round':i+1,'ours':a,'h2load':b,'ratio':round(rr[-1],3)}),flush=True)
    print('median of rounds %.3f'%S.median(rr))
finally: s.kill()
