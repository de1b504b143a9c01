#!/usr/bin/env python3
"""Ours and h2load against the same server, by turns: rates, and CPU of server and client. Usage: validate.py BENCH SERVER OUT ROUNDS SECONDS [workloads]"""
import json, os, re, resource, shutil, struct, subprocess, sys, time

bench, server, out, rounds, seconds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
which = sys.argv[6].split(',') if len(sys.argv) > 6 else ['get', 'put']
os.makedirs(out, exist_ok=True)
PORT, WARM = 15579, 1
KEY = struct.pack('>Q', 0)

def varint(n):
    b = b''
    while n > 127: b += bytes([n & 127 | 128]); n >>= 7
    return b + bytes([n])
def field(n, data): return bytes([n << 3 | 2]) + varint(len(data)) + data
def grpc(message): return b'\0' + struct.pack('>I', len(message)) + message
body = {'get': grpc(field(1, KEY)), 'put': grpc(field(1, KEY) + field(2, KEY + b'a' * 248))}
path = {'get': 'Range', 'put': 'Put'}
for w in body:
    open(f'{out}/{w}.body', 'wb').write(body[w])

def start():
    d = '/tmp/load/val/data'
    shutil.rmtree(d, ignore_errors=True)
    c, p = f'http://127.0.0.1:{PORT}', f'http://127.0.0.1:{PORT+1}'
    s = subprocess.Popen(['taskset', '-c', '0', server, "--quota-backend-bytes=8589934592", "--log-level=error", "--name", "m", '--data-dir', d, '--listen-client-urls', c, '--advertise-client-urls', c,
        '--listen-peer-urls', p, '--initial-advertise-peer-urls', p, '--initial-cluster', f'm={p}'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    servers.append(s)
    for _ in range(200):
        time.sleep(0.05)
        try:
            import urllib.request
            if urllib.request.urlopen(c + '/readyz', timeout=1).status == 200: return s
        except Exception: pass
    raise SystemExit('no server')

import atexit
atexit.register(lambda: [s.kill() for s in servers if s.poll() is None])
servers = []
def cpu(pid):
    return sum(int(open(f'/proc/{pid}/task/{t}/schedstat').read().split()[0]) for t in os.listdir(f'/proc/{pid}/task'))

def user(pid):
    f = [int(x) for x in open('/proc/stat').readline().split()[1:]]
    own = int(open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()[11])
    return (f[0] + f[1] - own) / 100

def steal():
    f = [int(x) for x in open('/proc/stat').readline().split()[1:]]
    return f[7], sum(f[:8])

lines = []
DEADLINE = time.time() + float(os.environ.get('PATIENCE', '600'))
def calm():
    'Waits for three seconds in which the machine did nothing.'
    while time.time() < DEADLINE:
        a = [int(x) for x in open('/proc/stat').readline().split()[1:]]
        time.sleep(1.5)
        b = [int(x) for x in open('/proc/stat').readline().split()[1:]]
        if b[0] + b[1] - a[0] - a[1] < 8: return
def one(w, conns, tool, place):
    s = start()
    env = dict(os.environ, RUST_BACKTRACE='0')
    pre = ['taskset', '-c', '1', bench, 'run', '--endpoint', f'127.0.0.1:{PORT}', '--pid', str(s.pid), '--json', '--keys', '1', '--key-size', '8', '--value-size', '256', '--conns', str(conns), '--streams', '10']
    subprocess.run(pre + ['--workload', 'get', '--warmup', '0.1', '--seconds', '0.2'], check=True, stdout=subprocess.DEVNULL, env=env)
    b, c0, st0, u0 = resource.getrusage(resource.RUSAGE_CHILDREN), cpu(s.pid), steal(), user(s.pid)
    if tool == 'ours':
        r = subprocess.run(pre + ['--workload', w, '--warmup', str(WARM), '--seconds', str(seconds)], check=True, capture_output=True, text=True, env=env)
        f = json.loads(r.stdout)
        rate, ops, raw = f['per_second'], f['verified']['answered_right'], r.stdout
    else:
        cmd = ['taskset', '-c', '1', 'h2load', '-t', '1', '-c', str(conns), '-m', '10', '-D', str(int(seconds)), '--warm-up-time', str(WARM), '-d', f'{out}/{w}.body',
            '-H', 'content-type: application/grpc', '-H', 'te: trailers', f'http://127.0.0.1:{PORT}/etcdserverpb.KV/{path[w]}']
        r = subprocess.run(cmd, check=True, capture_output=True, text=True)
        raw = ' '.join(cmd) + '\n' + r.stdout
        rate = float(re.search(r'([\d.]+) req/s', r.stdout).group(1))
        good = re.search(r'(\d+) succeeded, (\d+) failed', r.stdout)
        assert good.group(2) == '0', r.stdout
        ops = int(rate * seconds)
    e, c1, st1, u1 = resource.getrusage(resource.RUSAGE_CHILDREN), cpu(s.pid), steal(), user(s.pid)
    others = (u1 - u0 - (e.ru_utime - b.ru_utime)) / (seconds + WARM)
    client = e.ru_utime + e.ru_stime - b.ru_utime - b.ru_stime
    stolen = (st1[0] - st0[0]) / max(1, st1[1] - st0[1]) * 100
    span = seconds + WARM
    total = rate * span
    line = dict(workload=f'{w} {conns}x10', place=place, tool=tool, per_second=round(rate), server_cpu_us=round((c1 - c0) / 1e3 / total, 3), client_cpu_us=round(client * 1e6 / total, 3), server_busy=round((c1-c0)/1e9/span, 2), client_busy=round(client/span, 2), others_user_busy=round(others, 3), steal_percent=round(stolen, 2))
    s.terminate(); s.wait()
    is_calm = others < 0.05 and stolen < 1
    line['kept'] = is_calm
    lines.append(line)
    open(f'{out}/{w}-{conns}x10-{place:02}-{tool}{"" if is_calm else "-disturbed-" + str(len(lines))}.txt', 'w').write(raw)
    print(json.dumps(line), flush=True)
    return is_calm

for w in which:
    place = 0
    for r in range(rounds):
        for tool in ['ours', 'h2load', 'h2load', 'ours']:
            place += 1
            while not one(w, int(os.environ.get('CONNS', '10')), tool, place):
                if time.time() > DEADLINE: raise SystemExit('never calm')
                calm()
    med = lambda t: sorted(l['per_second'] for l in lines if l['kept'] and l['tool'] == t and l['workload'].startswith(w))
    a, b = med('ours'), med('h2load')
    m = lambda x: (x[len(x)//2] + x[(len(x)-1)//2]) / 2
    print(f'{w}: ours {m(a):.0f}/s ({a[0]}-{a[-1]}), h2load {m(b):.0f}/s ({b[0]}-{b[-1]}), ratio {m(a)/m(b):.3f}', flush=True)
with open(f'{out}/runs.jsonl', 'a') as f:
    for l in lines: f.write(json.dumps(l) + '\n')
