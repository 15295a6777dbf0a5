#!/usr/bin/env python3
"""image.py OUT.tar NAME:TAG [options] SRC=DEST...: write a container image as a docker archive, without any builder.

SRC is a file or a directory (copied with its contents), DEST an absolute path in the image; all files belong to root.
  --entrypoint "CMD ARG..."   --env K=V   --workdir DIR   --user UID   --link PATH=TARGET   --libs (also add the
  shared libraries of every copied program, as `ldd` finds them)
Import with `cluster.sh load-images OUT.tar`. Use names like localhost/app:1: a name without a host part is one of a public registry.
"""
import argparse, hashlib, io, json, os, re, subprocess, tarfile, tempfile

p = argparse.ArgumentParser()
p.add_argument('out'); p.add_argument('name'); p.add_argument('copy', nargs='*')
p.add_argument('--entrypoint', default=''); p.add_argument('--env', action='append', default=[])
p.add_argument('--workdir', default='/'); p.add_argument('--user', default=''); p.add_argument('--link', action='append', default=[])
p.add_argument('--libs', action='store_true')
a = p.parse_intermixed_args()

def root(info):
    info.uid = info.gid = 0; info.uname = info.gname = ''; info.mtime = 0   # the same input gives the same image
    return info

pairs = [c.split('=', 1) for c in a.copy]
if a.libs:
    for src in [s for s, _ in pairs if os.path.isfile(s)]:
        found = subprocess.run(['ldd', src], capture_output=True, text=True).stdout
        pairs += [[os.path.realpath(lib), lib] for lib in re.findall(r'(/\S+) \(0x', found)]
with tempfile.TemporaryFile() as layer:
    with tarfile.open(fileobj=layer, mode='w') as tar:
        for d in ('tmp', 'etc', 'proc', 'sys', 'dev'):
            info = root(tarfile.TarInfo(d)); info.type = tarfile.DIRTYPE; info.mode = 0o1777 if d == 'tmp' else 0o755; tar.addfile(info)
        for dest, src in {d: s for s, d in pairs}.items():
            tar.add(os.path.realpath(src), arcname=dest.lstrip('/') or '.', filter=root)
        for path, target in (l.split('=', 1) for l in a.link):
            info = root(tarfile.TarInfo(path.lstrip('/'))); info.type = tarfile.SYMTYPE; info.linkname = target; tar.addfile(info)
    layer.seek(0); digest = hashlib.file_digest(layer, 'sha256').hexdigest(); size = layer.tell()
    config = json.dumps({
        'architecture': {'x86_64': 'amd64', 'aarch64': 'arm64'}[os.uname().machine], 'os': 'linux',
        'config': {'Entrypoint': a.entrypoint.split() or None, 'Env': a.env or ['PATH=/usr/local/bin:/usr/bin:/bin'], 'WorkingDir': a.workdir, 'User': a.user},
        'rootfs': {'type': 'layers', 'diff_ids': ['sha256:' + digest]}, 'history': [{'created_by': 'image.py'}]}).encode()
    manifest = json.dumps([{'Config': 'config.json', 'RepoTags': [a.name], 'Layers': ['layer.tar']}]).encode()
    with tarfile.open(a.out, 'w') as out:
        def add(name, f, n):
            info = tarfile.TarInfo(name); info.size = n; out.addfile(info, f)
        layer.seek(0); add('layer.tar', layer, size)
        add('config.json', io.BytesIO(config), len(config)); add('manifest.json', io.BytesIO(manifest), len(manifest))
