module etcd-forensics/tools/macho

go 1.26.0
