package link

// Kind says what a connection carries. It is the connection's ALPN.
type Kind string

// The kinds of connections between regions. KindRPC is spoken by the mesh
// itself; the others are handed to whoever called HandleConn.
const (
	KindRPC     Kind = "antipode/rpc"
	KindRaft    Kind = "antipode/raft"
	KindJournal Kind = "antipode/journal"
	KindBlob    Kind = "antipode/blob"
	KindTunnel  Kind = "antipode/tunnel"
)

// Kinds lists the kinds of connections that a trusted peer may open.
func Kinds() []Kind { return []Kind{KindRPC, KindRaft, KindJournal, KindBlob, KindTunnel} }

// kindJoin is open to those who are not trusted yet.
const kindJoin Kind = "antipode/join"

// Direction says which way of a link a cut concerns, seen from this region.
type Direction uint8

// The ways of a link. Both is Outgoing and Incoming.
const (
	Outgoing Direction = 1 << iota
	Incoming
	Both = Outgoing | Incoming
)
