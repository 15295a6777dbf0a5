# shellcheck shell=bash
# Sourced by control-plane.sh: certificates and kubeconfig files in $STATE_DIR. Every function does nothing where its result exists.
PKI=$STATE_DIR/pki

new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1" 2>/dev/null; }

certificate_authority() {
  mkdir -p "$PKI"
  [ ! -s "$PKI/sa.pub" ] || return 0
  new_key "$PKI/ca.key"
  openssl req -x509 -new -key "$PKI/ca.key" -subj /CN=test-cluster-ca -days 3650 -sha256 -out "$PKI/ca.crt" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,digitalSignature 2>/dev/null
  openssl genrsa -out "$PKI/sa.key" 2048 2>/dev/null # signs ServiceAccount tokens
  openssl rsa -in "$PKI/sa.key" -pubout -out "$PKI/sa.pub" 2>/dev/null
}

# certificate NAME SUBJECT USAGE [ALTERNATIVE NAMES]
certificate() {
  [ ! -s "$PKI/$1.crt" ] || return 0
  new_key "$PKI/$1.key"
  openssl req -new -key "$PKI/$1.key" -subj "$2" 2>/dev/null |
    openssl x509 -req -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -CAcreateserial -days 3650 -sha256 -out "$PKI/$1.crt" -extfile <(
      printf '%s\n' basicConstraints=CA:FALSE keyUsage=digitalSignature,keyEncipherment "extendedKeyUsage=$3" ${4:+"subjectAltName=$4"}
    ) 2>/dev/null
}

# kubeconfig FILE CERTIFICATE SERVER-URL
kubeconfig() {
  (umask 077 && cat >"$STATE_DIR/$1.kubeconfig") <<Y
apiVersion: v1
kind: Config
clusters:
- name: cluster
  cluster: {server: "$3", certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")}
users:
- name: user
  user: {client-certificate-data: $(base64 -w0 "$PKI/$2.crt"), client-key-data: $(base64 -w0 "$PKI/$2.key")}
contexts:
- name: context
  context: {cluster: cluster, user: user}
current-context: context
Y
}
